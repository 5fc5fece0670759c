//! The admin listener: probes and metrics, on a separate runtime that isn't affected by request load.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use daemon::accept::Acceptor;
use tokio::net::{TcpListener, TcpStream};

use crate::listen::Front;
use crate::listen::sockets::Admin;
use crate::observe::metrics::Metrics;

/// Serves probes and metrics. A socket bound here is served until the process exits, an inherited one until
/// the drain begins, when the next frontd takes over. If `imperium up` itself is stopping, there is no next
/// one, and nobody answers while the last frontd drains: frontd can't tell the two cases apart.
pub(crate) async fn serve(admin: Admin, front: Arc<Front>) -> io::Result<()> {
    let drain = front.shared.drain.clone();
    let counting = Arc::clone(&front.shared.metrics);
    let router = Router::new()
        .route("/-/live", get(live))
        .route("/-/ready", get(ready))
        .route("/-/metrics", get(metrics))
        .with_state(front);
    match admin {
        Admin::Bound(socket) => axum::serve(Probes::new(socket, &counting)?, router).await,
        Admin::Inherited(socket) => {
            let serving = axum::serve(Probes::new(socket, &counting)?, router);
            serving.with_graceful_shutdown(drain.cancelled_owned()).await
        }
    }
}

/// The admin socket. When file descriptors run out, accepting backs off as it does for clients.
struct Probes(Acceptor<TcpListener>);

impl Probes {
    fn new(socket: StdListener, metrics: &Metrics) -> io::Result<Self> {
        Ok(Self(Acceptor::new(TcpListener::from_std(socket)?, metrics.accepting())))
    }
}

impl axum::serve::Listener for Probes {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.listener().local_addr()
    }
}

/// Live means that this thread responds and no shard hangs.
async fn live(State(front): State<Arc<Front>>) -> (StatusCode, String) {
    match front.pulse.hung() {
        None => (StatusCode::OK, "live\n".to_owned()),
        Some((shard, since)) => {
            let message = format!("shard {shard} hangs for {} s\n", since.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}

/// Ready means listening, with a routing table, and not draining.
async fn ready(State(front): State<Arc<Front>>) -> (StatusCode, &'static str) {
    if front.shared.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if front.shared.tables.borrow().is_known() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the routing table of emperord\n")
    }
}

async fn metrics(State(front): State<Arc<Front>>) -> impl IntoResponse {
    let table = Arc::clone(&front.shared.tables.borrow());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], front.shared.metrics.render(table.pools()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::listen::pulse::Pulse;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_frontd_with_a_shard_that_hangs_is_not_live() {
        let folder = tempfile::tempdir().unwrap();
        let mut front = Front::of(crate::connection::testing::shared(folder.path(), &[]));
        front.pulse = Pulse::silent_for(1, Duration::from_secs(60));
        let front = Arc::new(front);
        let socket = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let _serving = TaskTracker::new().spawn(serve(Admin::Bound(socket), Arc::clone(&front)));

        let answer = get(address, "/-/live").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("shard 0 hangs for 6"), "{answer}");
        assert!(get(address, "/-/metrics").await.starts_with("HTTP/1.1 200 "));

        let goes_on = async {
            while front.pulse.hung().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = front.pulse.beat(0) => {}
            () = goes_on => {}
        }
        let answer = get(address, "/-/live").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("live\n"), "{answer}");
    }
}
