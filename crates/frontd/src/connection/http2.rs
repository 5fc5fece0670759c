//! Speaks HTTP/2 with one client.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::resets::{self, Guarded, Resets};
use super::send_timeout::{End, Watch};
use super::{IDLE_IN_DRAIN, Served, Server};
use crate::observe::log_limit::LogLimit;
use crate::visit::client::Client;

/// Concurrent streams per HTTP/2 connection.
const STREAMS: u32 = 128;

/// Bytes that a client may send on a stream before they are read.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// The same for a connection. Streams which aren't read, such as uploads that wait for a worker, hold up the others only
/// if there are more than thirty.
const CONNECTION_WINDOW: u32 = 32 * STREAM_WINDOW;

/// Bytes per HTTP/2 stream that may be queued for the connection.
const STREAM_BUFFER: usize = 32 * 1024;

/// Maximum size of the future that handles an HTTP/2 exchange. It is copied a few times on its way into a
/// task.
const EXCHANGE_SIZE: usize = 4096;

/// Serves the connection until the client closes it, or until the drain ends it.
pub(super) async fn serve<IO>(server: &Arc<Server>, client: Client, io: IO) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.service.settings.read().limits.clone();
    let (client, resets) = (Arc::new(client), Arc::new(Resets::default()));
    let (streams, mut open) = Streams::new(server, &client);
    let io = Guarded::new(io, Arc::clone(&resets), client.address(), Arc::clone(server.metrics()));
    let service = service_fn(|request| {
        let (server, client, resets) = (Arc::clone(server), Arc::clone(&client), Arc::clone(&resets));
        resets.watch(async move { Ok::<_, Infallible>(server.service.respond(&client, request).await) })
    });
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // h2 refuses larger header lists without a page or a log line, so `service` enforces
        // `limits.header_bytes`. HTTP/2 counts 32 bytes of overhead per field.
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(limits.keep_alive)
        // RFC 8441: WebSockets.
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = server.drain.cancelled() => {}
            () = idle(&mut open, limits.keep_alive) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = idle(&mut open, IDLE_IN_DRAIN) => Ok(()),
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        // The connection's last poll has sent the GOAWAY, unless the client doesn't read.
        () = resets.exceeded() => Ok(()),
    };
    if resets.is_exceeded() || ended.as_ref().is_err_and(resets::is_enhance_your_calm) {
        server.metrics().floods.inc();
        static LOGGED: LogLimit = LogLimit::new();
        if let Some(withheld) = LOGGED.pass() {
            warn!(client = %client.address(), withheld, "connection closed: the client sent too many resets or frames");
        }
        return Ok(());
    }
    if ended.as_ref().is_err_and(resets::is_unreadable) {
        server.metrics().refused("http2_unreadable");
    }
    Ok(ended?)
}

/// Waits until no stream has been open for the given time. Pings alone don't keep a connection open.
pub(super) async fn idle(open: &mut watch::Receiver<usize>, idle_time: Duration) {
    while open.wait_for(|it| *it == 0).await.is_ok() {
        if tokio::time::timeout(idle_time, open.changed()).await.is_err() {
            return;
        }
    }
}

/// Spawns and counts the streams of one HTTP/2 connection, on the tracker that a drain waits for.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    server: Arc<Server>,
    client: Arc<Client>,
    open: watch::Sender<usize>,
}

impl Streams {
    pub(super) fn new(server: &Arc<Server>, client: &Arc<Client>) -> (Self, watch::Receiver<usize>) {
        let (open, count) = watch::channel(0);
        (Self { server: Arc::clone(server), client: Arc::clone(client), open }, count)
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, exchange: F) {
        const { assert!(size_of::<F>() <= EXCHANGE_SIZE, "the future of an HTTP/2 exchange is too large") };
        let Self { server, client, open } = self.clone();
        open.send_modify(|it| *it += 1);
        let timeout = server.service.settings.read().limits.send_timeout;
        let watch = Watch { timeout, backlog: client.backlog().clone() };
        let watched_client = Arc::clone(&client);
        let watched = watch.run(exchange, move || watched_client.share().memory.is_full());
        self.server.tasks().spawn(watched.map(move |end| {
            if end == End::Stalled {
                server.metrics().stalled.inc();
                debug!(client = %client.address(), "stream reset: the client read nothing from it");
            }
            open.send_modify(|it| *it -= 1);
        }));
    }
}
