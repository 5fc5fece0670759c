//! Workers that report that their event loop is blocked.

use api::runner::{Lag, serve_response};

use super::worker::{Stage, read_until, soon};
use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n";

#[tokio::test]
async fn requests_avoid_a_worker_whose_event_loop_is_blocked() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut first = stage.streaming_worker().await;
    let mut second = stage.streaming_worker().await;
    let blocked = async |pool: &crate::backend::pool::Pool<_>, count| {
        let reported = async {
            while pool.stats().blocked != count {
                tokio::task::yield_now().await;
            }
        };
        soon("the report", reported).await;
    };
    let pool = stage.pool();
    first.send(serve_response::Message::Lag(Lag { blocked: true }));
    blocked(&pool, 1).await;
    for _ in 0..2 {
        let mut client = stage.client(GET).await;
        let request = second.request().await;
        second.answer(request.id, "thanks");
        read_until(&mut client, "thanks").await;
    }
    first.send(serve_response::Message::Lag(Lag { blocked: false }));
    blocked(&pool, 0).await;
    let mut client = stage.client(GET).await;
    let request = first.request().await;
    first.answer(request.id, "thanks");
    read_until(&mut client, "thanks").await;
    let text = stage.shared.metrics.render(stage.server.service.sites.table().pools());
    assert!(text.contains("imperium_workers_blocked{app=\"blog\"} 0"), "{text}");
}
