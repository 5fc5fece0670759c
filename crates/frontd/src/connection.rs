//! Serves one client connection: TLS if the port expects it, then HTTP/1.1 or HTTP/2.

mod cuttable;
mod head_guard;
mod hinted;
mod http2_frames;
mod resets;
mod send_timeout;
pub(crate) mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use self::cuttable::Cuttable;
use self::head_guard::{HeadGuard, HeadLimits};
use self::hinted::Hinted;
use self::resets::{Guarded, Resets};
use self::send_timeout::{End, SendTimeout, Watch};
use crate::limits::clients::Share;
use crate::listen::shard::Shard;
use crate::observe::log_limit::LogLimit;
use crate::service;
use crate::visit::client::{Client, Transport};
use crate::visit::refusal::Refusal;

/// Concurrent streams per HTTP/2 connection.
const STREAMS: u32 = 128;

/// Maximum size of hyper's buffers for HTTP/1.1: for received data, and for response data in addition to the
/// last chunk it was given.
const BUFFER: usize = 128 * 1024;

/// Bytes per HTTP/2 stream that may be queued for the connection.
const STREAM_BUFFER: usize = 32 * 1024;

/// Maximum size of the future that handles an HTTP/2 exchange. It is copied a few times on its way into a
/// task.
const EXCHANGE_SIZE: usize = 4096;

/// How long an HTTP/1.1 client may take to send its last request once a drain has begun.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long a client without running requests may take to close its connection once a drain has begun.
const IDLE_IN_DRAIN: Duration = Duration::from_secs(5);

/// Serves the connection until the client closes it, or until the drain ends it.
pub(crate) async fn serve(
    shard: Arc<Shard>,
    stream: TcpStream,
    peer: SocketAddr,
    transport: Transport,
    share: Arc<Share>,
) {
    // If the connection is already gone, the first read will fail.
    let local = stream.local_addr().map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |it| it.ip());
    let refusal = Refusal::none(shard.shared_metrics());
    let client = Client::new(peer, local, transport, share, refusal);
    let timeout = shard.config().limits.send_timeout;
    let stream =
        SendTimeout::new(stream, timeout, client.backlog().clone(), Arc::clone(&client.share().memory));
    let served = match transport {
        Transport::Plain => http1(&shard, &client, stream, Expected::Yes).await,
        Transport::Tls => tls(&shard, client, stream).await,
    };
    if let Err(error) = served {
        if error.downcast_ref().is_some_and(|it: &hyper::Error| it.is_parse() || it.is_parse_too_large()) {
            shard.metrics().refused("parser");
        }
        // What ends a connection early is up to the client or its network.
        debug!(%peer, error = &*error as &dyn Error, "connection ended early");
    }
}

type Served = Result<(), Box<dyn Error + Send + Sync>>;

async fn tls(shard: &Arc<Shard>, client: Client, stream: SendTimeout) -> Served {
    let acceptor = shard.certificates().acceptor();
    let limit = shard.config().limits.header_timeout;
    let opened = async {
        Ok::<_, io::Error>(match is_plain(stream.get_ref()).await? {
            true => Opened::Plain(stream),
            false => Opened::Tls(acceptor.accept(stream).await?),
        })
    };
    let opened = tokio::select! {
        biased;
        opened = tokio::time::timeout(limit, opened) => opened??,
        () = drained(shard, IDLE_IN_DRAIN) => return Ok(()),
    };
    match opened {
        Opened::Plain(stream) => http1(shard, &client, stream, Expected::No).await,
        Opened::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(shard, client, stream).await
        }
        Opened::Tls(stream) => http1(shard, &client, stream, Expected::Yes).await,
    }
}

/// What the client speaks on a TLS port.
#[expect(clippy::large_enum_variant, reason = "nearly all are TLS, and boxing would allocate for each")]
enum Opened {
    Tls(TlsStream<SendTimeout>),
    Plain(SendTimeout),
}

/// Whether the client speaks plain HTTP: that starts with a letter, which no TLS record does.
async fn is_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic())
}

/// Waits until a drain began the given time ago.
async fn drained(shard: &Shard, ago: Duration) {
    shard.drain().cancelled().await;
    tokio::time::sleep(ago).await;
}

/// Whether the client is expected to speak HTTP on the connection as it is.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Yes,
    /// The port expects TLS.
    No,
}

async fn http1<IO>(shard: &Arc<Shard>, client: &Client, io: IO, expected: Expected) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shard.config().limits.clone();
    let head = HeadLimits { time: limits.header_timeout, bytes: limits.header_bytes };
    let io = Cuttable::new(Hinted::new(io, client.early_hints().clone()), client.connection_cut().clone());
    let service = service_fn(async |request| {
        let mut response = match expected {
            Expected::Yes => service::respond(shard, client, request).await,
            Expected::No => service::refuse_plain(shard, client, request),
        };
        if shard.drain().is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        // hyper counts the idle time before a head towards this timeout; the head guard measures the head
        // alone.
        .header_read_timeout(limits.keep_alive)
        // The head guard refuses longer heads. Percent-encoding unusual characters of a target can triple its
        // length.
        .max_header_size(limits.header_bytes * 3 + 1024)
        .max_buf_size((limits.header_bytes * 4).max(BUFFER))
        .serve_connection(TokioIo::new(HeadGuard::new(io, head, client.refusal().clone())), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // Polled first, so that a request that has already arrived is read.
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        // A busy client may have its next request on the way; its response will carry `Connection: close`.
        () = drained(shard, LAST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn http2<IO>(shard: &Arc<Shard>, client: Client, io: IO) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shard.config().limits.clone();
    let (client, resets) = (Arc::new(client), Arc::new(Resets::default()));
    let (streams, mut open) = Streams::new(shard, &client);
    let io = Guarded::new(io, Arc::clone(&resets), client.address(), shard.shared_metrics());
    let service = service_fn(|request| {
        let (shard, client, resets) = (Arc::clone(shard), Arc::clone(&client), Arc::clone(&resets));
        resets.watch(async move { Ok::<_, Infallible>(service::respond(&shard, &client, request).await) })
    });
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // h2 refuses larger header lists without a page or a log line, so the service enforces
        // `limits.header_bytes`. HTTP/2 counts 32 bytes of overhead per field.
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(limits.keep_alive)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = shard.drain().cancelled() => {}
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
        shard.metrics().floods.inc();
        static LOGGED: LogLimit = LogLimit::new();
        if let Some(withheld) = LOGGED.pass() {
            warn!(client = %client.address(), withheld, "connection closed: the client sent too many resets or frames");
        }
        return Ok(());
    }
    if ended.as_ref().is_err_and(resets::is_unreadable) {
        shard.metrics().refused("http2_unreadable");
    }
    Ok(ended?)
}

/// Waits until no stream has been open for the given time. Pings alone don't keep a connection open.
async fn idle(open: &mut watch::Receiver<usize>, idle_time: Duration) {
    while open.wait_for(|it| *it == 0).await.is_ok() {
        if tokio::time::timeout(idle_time, open.changed()).await.is_err() {
            return;
        }
    }
}

/// Spawns and counts the streams of one HTTP/2 connection, on the tracker that a drain waits for.
#[derive(Debug, Clone)]
struct Streams {
    shard: Arc<Shard>,
    client: Arc<Client>,
    open: watch::Sender<usize>,
}

impl Streams {
    fn new(shard: &Arc<Shard>, client: &Arc<Client>) -> (Self, watch::Receiver<usize>) {
        let (open, count) = watch::channel(0);
        (Self { shard: Arc::clone(shard), client: Arc::clone(client), open }, count)
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, exchange: F) {
        const { assert!(size_of::<F>() <= EXCHANGE_SIZE, "the future of an HTTP/2 exchange is too large") };
        let Self { shard, client, open } = self.clone();
        open.send_modify(|it| *it += 1);
        let timeout = shard.config().limits.send_timeout;
        let watch = Watch { timeout, backlog: client.backlog().clone() };
        let watched_client = Arc::clone(&client);
        let watched = watch.run(exchange, move || watched_client.share().memory.is_full());
        self.shard.tasks().spawn(watched.map(move |end| {
            if end == End::Stalled {
                shard.metrics().stalled.inc();
                debug!(client = %client.address(), "stream reset: the client read nothing from it");
            }
            open.send_modify(|it| *it -= 1);
        }));
    }
}

#[cfg(test)]
mod tests;
