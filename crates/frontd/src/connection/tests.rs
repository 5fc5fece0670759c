//! Connections whose clients are told frame by frame what to do.

mod resets;

use std::net::Ipv4Addr;

use api::routes;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Method, Request, StatusCode};
use tempfile::TempDir;

use hyper::rt::Executor as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

const PATIENCE: Duration = Duration::from_secs(75);

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_when_its_last_exchange_has_ended_for_long_enough() {
    let (streams, mut open) = Streams::new(TaskTracker::new());
    let (end, ended) = oneshot::channel::<()>();
    streams.execute(async { drop(ended.await) });
    streams.execute(async {});
    assert!(tokio::time::timeout(PATIENCE * 10, idle(&mut open, PATIENCE)).await.is_err());
    drop(end);
    assert!(tokio::time::timeout(PATIENCE / 2, idle(&mut open, PATIENCE)).await.is_err());
    streams.execute(async {});
    assert!(tokio::time::timeout(PATIENCE / 2, idle(&mut open, PATIENCE)).await.is_err());
    assert!(tokio::time::timeout(PATIENCE * 2, idle(&mut open, PATIENCE)).await.is_ok());
}

/// A connection of HTTP/2 to a shard with one app, `blog.example`.
struct World {
    _folder: TempDir,
    shard: Arc<Shard>,
    requests: SendRequest<Bytes>,
}

impl World {
    async fn new(app: routes::App) -> Self {
        Self::with(app, |_| (), h2::client::Builder::new()).await
    }

    async fn with(
        app: routes::App,
        set: impl FnOnce(&mut config::frontd::FrontdConfig),
        settings: h2::client::Builder,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec!["blog.example".to_owned()];
        let app = routes::App { name: "blog".to_owned(), domains, path: "/".to_owned(), ..app };
        let mut shared = crate::shard::testing::shared(folder.path(), &[app]);
        set(&mut shared.config);
        let shard = crate::shard::testing::shard(&Arc::new(shared));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        let serving = Arc::clone(&shard);
        shard.tasks().spawn(async move {
            let client = Client::new(peer, peer.ip(), Transport::Tls, Refusal::none(serving.shared_metrics()));
            let _ended = http2(&serving, client, near).await;
        });
        let (requests, connection) = settings.handshake(far).await.unwrap();
        shard.tasks().spawn(async { drop(connection.await) });
        Self { _folder: folder, shard, requests: requests.ready().await.unwrap() }
    }

    /// Begins a request; with a body, which is to be sent, unless it is a GET.
    fn send(&mut self, method: Method, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let ends = method == Method::GET;
        let request = Request::builder().method(method).uri(format!("https://blog.example{path}"));
        self.requests.send_request(request.body(()).unwrap(), ends).unwrap()
    }
}

/// Sends so many bytes; tells whether all of them were wanted.
async fn upload(stream: &mut SendStream<Bytes>, mut bytes: usize) -> bool {
    while bytes > 0 {
        stream.reserve_capacity(bytes.min(16 * 1024));
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let part = room.min(bytes);
        if stream.send_data(Bytes::from(vec![b'x'; part]), false).is_err() {
            return false;
        }
        bytes -= part;
    }
    true
}

#[tokio::test]
async fn an_upload_that_is_refused_is_read_for_a_while_so_that_the_answer_is_seen() {
    let mut world =
        World::new(routes::App { body_limit: 1000, queue_size: 1, ..routes::App::default() }).await;
    let (response, mut stream) = world.send(Method::POST, "/");
    assert!(upload(&mut stream, 2000).await);
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut page = response.into_body();
    while let Some(part) = page.data().await {
        page.flow_control().release_capacity(part.unwrap().len()).unwrap();
    }
    // As of a client that looks for the answer once it has sent everything.
    assert!(upload(&mut stream, 4 << 20).await, "the stream was reset");
    stream.send_data(Bytes::new(), true).unwrap();

    let (response, mut stream) = world.send(Method::POST, "/");
    assert!(upload(&mut stream, 2000).await);
    assert_eq!(response.await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!upload(&mut stream, 256 << 20).await, "it is read without an end");
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}
