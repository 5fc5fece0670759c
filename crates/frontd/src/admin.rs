//! The admin listener: probes and metrics, on a runtime of its own that no load of requests reaches.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::listener::Admin;
use crate::shard::Shared;

/// Answers for good; on a socket that others have too, until the drain, as the next frontd answers from then on. Where
/// `imperium up` itself ends there is no next one, which a frontd is not told: nobody answers while the last one drains.
pub(crate) async fn serve(admin: Admin, shared: Arc<Shared>) -> std::io::Result<()> {
    let drain = shared.drain.clone();
    let router = Router::new()
        .route("/-/live", get(|| async { "live\n" }))
        .route("/-/ready", get(ready))
        .route("/-/metrics", get(metrics))
        .with_state(shared);
    match admin {
        Admin::Bound(socket) => axum::serve(TcpListener::from_std(socket)?, router).await,
        Admin::Inherited(socket) => {
            let serving = axum::serve(TcpListener::from_std(socket)?, router);
            serving.with_graceful_shutdown(drain.cancelled_owned()).await
        }
    }
}

/// Ready is: listening, with a routing table, and not about to stop.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if shared.tables.borrow().is_known() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the routing table of emperord\n")
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let table = Arc::clone(&shared.tables.borrow());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], shared.metrics.render(&table))
}
