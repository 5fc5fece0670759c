//! Serves one client connection: TLS if the port expects it, then HTTP/1.1 or HTTP/2.

mod cuttable;
mod head_guard;
mod hinted;
mod http1;
mod http2;
mod http2_frames;
mod resets;
mod send_timeout;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::frontd::FrontdConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::http1::Expected;
use self::send_timeout::SendTimeout;
use self::tls::Certificates;
use crate::action::Resources;
use crate::body::spool::SpoolFolder;
use crate::limits::clients::{Clients, Share};
use crate::mode::Mode;
use crate::observe::metrics::Metrics;
use crate::service::Service;
use crate::settings::Settings;
use crate::site::Sites;
use crate::site::first_table::FirstTable;
use crate::site::table::Table;
use crate::visit::client::{Client, Guard, Transport};
use crate::visit::refusal::Refusal;

/// How long a client without running requests may take to close its connection once a drain has begun.
const IDLE_IN_DRAIN: Duration = Duration::from_secs(5);

/// What the connections of all shards share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mode: Mode,
    /// The configuration at the start.
    pub(crate) config: FrontdConfig,
    /// The current configuration.
    pub(crate) live: watch::Sender<Arc<FrontdConfig>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) tables: watch::Receiver<Arc<Table>>,
    pub(crate) first_table: Arc<FirstTable>,
    /// Cancelled when the drain begins.
    pub(crate) drain: CancellationToken,
    pub(crate) spool: SpoolFolder,
    pub(crate) clients: Clients,
}

/// Serves the connections of one shard.
#[derive(Debug)]
pub(crate) struct Server {
    service: Service,
    certificates: Arc<Certificates>,
    drain: CancellationToken,
}

impl Server {
    /// The server of the shard with this number.
    pub(crate) fn new(shard: usize, shared: &Shared) -> Self {
        let Shared { tables, first_table, drain, .. } = shared;
        let resources = Resources {
            shard,
            mode: shared.mode,
            metrics: Arc::clone(&shared.metrics),
            spool: shared.spool.clone(),
            tasks: TaskTracker::new(),
            drain: drain.clone(),
            drained: CancellationToken::new(),
        };
        Self {
            service: Service {
                settings: Settings::new(shared.config.clone()),
                sites: Sites::new(tables.clone(), Arc::clone(first_table), drain.clone()),
                resources,
            },
            certificates: Arc::clone(&shared.certificates),
            drain: drain.clone(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.service.settings
    }

    /// Connections and their running requests: the drain waits for them.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.service.resources.tasks
    }

    /// Cancelled at the end of the drain: all WebSockets are closed then.
    pub(crate) fn end_of_drain(&self) -> &CancellationToken {
        &self.service.resources.drained
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.service.resources.metrics
    }

    /// Waits until a drain began the given time ago.
    async fn drained(&self, ago: Duration) {
        self.drain.cancelled().await;
        tokio::time::sleep(ago).await;
    }
}

/// Serves the connection until the client closes it, or until the drain ends it. A WebSocket that it becomes is served by
/// a task of its own, and keeps `guard`.
pub(crate) async fn serve(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    transport: Transport,
    share: Arc<Share>,
    guard: Guard,
) {
    // If the connection is already gone, the first read will fail.
    let local = stream.local_addr().map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |it| it.ip());
    let refusal = Refusal::none(Arc::clone(server.metrics()));
    let client = Client::new(peer, local, transport, share, refusal).guarded(guard);
    let timeout = server.service.settings.read().limits.send_timeout;
    let stream =
        SendTimeout::new(stream, timeout, client.backlog().clone(), Arc::clone(&client.share().memory));
    let served = match transport {
        Transport::Plain => http1::serve(&server, &client, stream, Expected::Yes).await,
        Transport::Tls => tls(&server, client, stream).await,
    };
    if let Err(error) = served {
        if error.downcast_ref().is_some_and(|it: &hyper::Error| it.is_parse() || it.is_parse_too_large()) {
            server.metrics().refused("parser");
        }
        // What ends a connection early is up to the client or its network.
        debug!(%peer, error = &*error as &dyn Error, "connection ended early");
    }
}

/// `Err` says why the connection ended early.
type Served = Result<(), Box<dyn Error + Send + Sync>>;

async fn tls(server: &Arc<Server>, client: Client, stream: SendTimeout) -> Served {
    let acceptor = server.certificates.acceptor();
    let limit = server.service.settings.read().limits.header_timeout;
    let opened = async {
        Ok::<_, io::Error>(match is_plain(stream.get_ref()).await? {
            true => Opened::Plain(stream),
            false => Opened::Tls(acceptor.accept(stream).await?),
        })
    };
    let opened = tokio::select! {
        biased;
        opened = tokio::time::timeout(limit, opened) => opened??,
        () = server.drained(IDLE_IN_DRAIN) => return Ok(()),
    };
    match opened {
        Opened::Plain(stream) => http1::serve(server, &client, stream, Expected::No).await,
        Opened::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2::serve(server, client, stream).await
        }
        Opened::Tls(stream) => http1::serve(server, &client, stream, Expected::Yes).await,
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
