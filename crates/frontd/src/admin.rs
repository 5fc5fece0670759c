//! The admin listener: probes and metrics, on a runtime of its own that no load of requests reaches.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::shard::Shared;

/// Listens on `address`.
///
/// # Errors
/// When it is taken.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let taken = || format!("listen on {address} for probes and metrics: set another `admin` in frontd.toml");
    TcpListener::bind(address).await.with_context(taken)
}

/// Answers for good.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/-/live", get(|| async { "live\n" }))
        .route("/-/ready", get(ready))
        .route("/-/metrics", get(metrics))
        .with_state(shared);
    axum::serve(listener, router).await
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
