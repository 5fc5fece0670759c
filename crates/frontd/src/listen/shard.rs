//! One shard: a thread with its own runtime, accept loops and upstream links. There is one per core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::{io, iter};

use config::frontd::{AccessLog, FrontdConfig};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::backend::Links;
use crate::body::spool::SpoolFolder;
use crate::connection;
use crate::connection::tls::Certificates;
use crate::limits::clients::{Clients, Share};
use crate::listen::pulse::Pulse;
use crate::listen::sockets::{BACKLOG, Bound, Listener};
use crate::mode::Mode;
use crate::observe::log_limit::LogLimit;
use crate::observe::metrics::Metrics;
use crate::site::first_table::FirstTable;
use crate::site::table::{App, Table};
use crate::visit::client::Transport;
use crate::yield_before_park;

/// State that all shards share.
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
    pub(crate) first_table: FirstTable,
    /// Cancelled when the drain begins.
    pub(crate) drain: CancellationToken,
    pub(crate) spool: SpoolFolder,
    pub(crate) clients: Clients,
    /// How many client connections may be open.
    pub(crate) connections: AtomicUsize,
    pub(crate) pulse: Pulse,
}

/// One shard, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Shard {
    number: usize,
    shared: Arc<Shared>,
    /// A copy per shard, so that reading it causes no contention between shards.
    config: RwLock<Arc<FrontdConfig>>,
    /// Connections and their running requests: the drain waits for them.
    tasks: TaskTracker,
}

/// A client connection on its way to the shard that will serve it.
#[derive(Debug)]
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    transport: Transport,
    guard: ConnectionGuard,
}

/// The sending side of a shard's queue of connections that other shards accepted.
#[derive(Debug, Clone)]
struct Handoff {
    open: Arc<AtomicUsize>,
    accepted: mpsc::UnboundedSender<Accepted>,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
struct ConnectionGuard {
    open: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    /// The usage of the client's address.
    share: Arc<Share>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// `limits.connections` is reached.
    Full,
    /// Few connections are left, and the client's address has more than half of all.
    Crowded,
}

impl Refused {
    /// Decides from the number of open connections, those of the same address, and the limit. Until few are
    /// left, one address may have all of them, since it may be a proxy.
    fn of(open: usize, of_address: usize, limit: usize) -> Option<Self> {
        if open >= limit {
            Some(Self::Full)
        } else if open >= limit - limit / 4 && of_address > limit / 2 {
            Some(Self::Crowded)
        } else {
            None
        }
    }

    fn log(self, peer: SocketAddr) {
        static LOGGED: LogLimit = LogLimit::every(30);
        if let Some(withheld) = LOGGED.pass() {
            match self {
                Self::Full => warn!(%peer, withheld, "connection closed: limits.connections is reached"),
                Self::Crowded => warn!(
                    %peer,
                    withheld,
                    "connection closed: its address has more than half of limits.connections, and few are left"
                ),
            }
        }
    }
}

/// Starts one thread per shard. Each has its own duplicates of the sockets, closes them when the drain
/// begins, and ends once it has drained.
///
/// # Errors
///
/// Returns an error if a thread, a runtime or a file descriptor can't be created.
pub(crate) fn start(shared: &Arc<Shared>, bound: &[Bound]) -> io::Result<Vec<thread::JoinHandle<()>>> {
    let shards = shared.config.shards.get();
    let (handoffs, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| Handoff::new()).unzip();
    let handoffs = Arc::new(handoffs);
    let start = |(number, receiver)| {
        let mut builder = runtime::Builder::new_current_thread();
        // Blocking file operations run on the threads of `disk`.
        builder.max_blocking_threads(1);
        let runtime = builder.enable_all().on_thread_park(yield_before_park::before_park).build()?;
        let shard = Arc::new(Shard::new(number, Arc::clone(shared)));
        let bound = bound.iter().map(Bound::share).collect::<io::Result<_>>()?;
        let handoffs = Arc::clone(&handoffs);
        let thread = thread::Builder::new().name(format!("shard-{number}"));
        thread.spawn(move || runtime.block_on(shard.run(bound, handoffs, receiver)))
    };
    receivers.into_iter().enumerate().map(start).collect()
}

impl Shard {
    fn new(number: usize, shared: Arc<Shared>) -> Self {
        let config = RwLock::new(Arc::new(shared.config.clone()));
        Self { number, shared, config, tasks: TaskTracker::new() }
    }

    async fn run(
        self: Arc<Self>,
        bound: Vec<Bound>,
        handoffs: Arc<Vec<Handoff>>,
        mut receiver: mpsc::UnboundedReceiver<Accepted>,
    ) {
        let background = TaskTracker::new();
        let beating = Arc::clone(&self);
        background.spawn(async move { beating.shared.pulse.beat(beating.number).await });
        background.spawn(Arc::clone(&self).follow_config());
        background.spawn(Links::new(self.number, background.clone()).follow(self.shared.tables.clone()));
        for bound in bound {
            match bound.listener(&self.shared.metrics) {
                Ok(listener) => {
                    let accept = Arc::clone(&self).accept(listener, Arc::clone(&handoffs));
                    drop(background.spawn(accept));
                }
                Err(error) => {
                    warn!(shard = self.number, %error, "this shard cannot accept connections");
                }
            }
        }
        drop(handoffs);
        // The channel closes with the last accept loop of any shard. Connections passed on until then are
        // served like all others, even though the drain has begun.
        while let Some(accepted) = receiver.recv().await {
            self.receive(accepted);
        }
        self.shared.drain.cancelled().await;
        self.tasks.close();
        let limit = self.config().drain;
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            warn!(
                shard = self.number,
                connections = self.tasks.len(),
                "drain took too long: cutting what is left"
            );
        }
        self.shared.pulse.end(self.number);
    }

    async fn accept(self: Arc<Self>, mut listener: Listener, handoffs: Arc<Vec<Handoff>>) {
        let transport = listener.transport();
        let drain = self.shared.drain.clone();
        while let Some((stream, peer)) = drain.run_until_cancelled(listener.accept()).await {
            self.dispatch(stream, peer, transport, &handoffs);
        }
        // Clients of connections in the accept queue consider themselves connected, and closing the socket
        // would reset them. The number is bounded because other processes may still listen on this socket.
        for (stream, peer) in iter::from_fn(|| listener.accept_waiting()).take(BACKLOG.into()) {
            self.dispatch(stream, peer, transport, &handoffs);
        }
    }

    /// Passes a connection to the shard that will serve it.
    fn dispatch(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        handoffs: &[Handoff],
    ) {
        let (target, guard) = match self.choose(handoffs, self.shared.clients.of(peer.ip())) {
            Ok(chosen) => chosen,
            Err(refused) => {
                self.shared.metrics.connections_refused.inc();
                return refused.log(peer);
            }
        };
        if target == self.number {
            return self.serve(stream, peer, transport, guard);
        }
        if let Ok(stream) = stream.into_std() {
            let _shard_has_ended =
                handoffs[target].accepted.send(Accepted { stream, peer, transport, guard });
        }
    }

    /// Selects the shard with the fewest connections, preferring this one.
    fn choose(&self, handoffs: &[Handoff], share: Arc<Share>) -> Result<(usize, ConnectionGuard), Refused> {
        let open = |it: usize| handoffs[it].open.load(Ordering::Relaxed);
        let all: usize = (0..handoffs.len()).map(open).sum();
        let limit = self.shared.connections.load(Ordering::Relaxed);
        let refused = Refused::of(all, share.connections.load(Ordering::Relaxed), limit);
        if let Some(refused) = refused {
            return Err(refused);
        }
        let fewest = (0..handoffs.len()).min_by_key(|it| (open(*it), *it != self.number));
        let fewest = fewest.unwrap_or(self.number);
        Ok((fewest, handoffs[fewest].register(&self.shared, share)))
    }

    fn receive(self: &Arc<Self>, Accepted { stream, peer, transport, guard }: Accepted) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, peer, transport, guard),
            Err(error) => warn!(%peer, %error, "connection lost on its way to another shard"),
        }
    }

    fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        guard: ConnectionGuard,
    ) {
        let shard = Arc::clone(self);
        self.tasks.spawn(async move {
            connection::serve(shard, stream, peer, transport, Arc::clone(&guard.share)).await;
            drop(guard);
        });
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The current configuration. Don't hold the guard for long.
    pub(crate) fn config(&self) -> RwLockReadGuard<'_, Arc<FrontdConfig>> {
        self.config.read()
    }

    /// Applies each change of the configuration.
    async fn follow_config(self: Arc<Self>) {
        let mut live = self.shared.live.subscribe();
        while live.changed().await.is_ok() {
            let config = Arc::clone(&live.borrow_and_update());
            *self.config.write() = config;
        }
    }

    /// How much detail the built-in error pages show.
    pub(crate) fn mode(&self) -> Mode {
        self.shared.mode
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.shared.certificates
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn shared_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    pub(crate) fn spool(&self) -> &SpoolFolder {
        &self.shared.spool
    }

    #[cfg(test)]
    pub(crate) fn clients(&self) -> &Clients {
        &self.shared.clients
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn drain(&self) -> &CancellationToken {
        &self.shared.drain
    }

    pub(crate) fn access_log(&self) -> bool {
        self.config().access_log == AccessLog::Stderr
    }

    /// The current routing table.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.shared.tables.borrow())
    }

    /// Whether a routing table is available.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.tables.borrow().is_known()
    }

    /// Waits for the first routing table, for a bounded time. Returns whether there is one.
    pub(crate) async fn wait_for_table(&self) -> bool {
        self.shared.first_table.wait(self.shared.tables.clone(), &self.shared.drain).await
    }

    /// The app for a host and a path.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<Arc<App>> {
        self.shared.tables.borrow().route(host, path).cloned()
    }
}

impl Handoff {
    fn new() -> (Self, mpsc::UnboundedReceiver<Accepted>) {
        let (accepted, receiver) = mpsc::unbounded_channel();
        (Self { open: Arc::default(), accepted }, receiver)
    }

    fn register(&self, shared: &Arc<Shared>, share: Arc<Share>) -> ConnectionGuard {
        share.connections.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.inc();
        ConnectionGuard { open: Arc::clone(&self.open), shared: Arc::clone(shared), share }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.share.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.connections.dec();
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_passed_on_by_another_shard_during_a_drain_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(testing::shared(folder.path(), &[]));
        let (handoff, receiver) = Handoff::new();
        let handoffs = Arc::new(vec![handoff]);
        let shard = testing::shard(&shared);
        shared.drain.cancel();
        let run = TaskTracker::new().spawn(shard.run(Vec::new(), Arc::clone(&handoffs), receiver));
        tokio::task::yield_now().await;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let guard = handoffs[0].register(&shared, shared.clients.of(peer.ip()));
        handoffs[0].accepted.send(Accepted { stream, peer, transport: Transport::Plain, guard }).unwrap();
        drop(handoffs);
        client.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        run.await.unwrap();
    }

    #[test]
    fn once_few_connections_are_left_one_address_gets_at_most_half() {
        for (open, of_address, refused) in [
            (0, 0, None),
            (74, 74, None),
            (75, 50, None),
            (75, 51, Some(Refused::Crowded)),
            (99, 0, None),
            (100, 0, Some(Refused::Full)),
        ] {
            assert_eq!(Refused::of(open, of_address, 100), refused, "{of_address} of {open}");
        }
        assert_eq!(Refused::of(0, 0, 1), None);
    }

    /// Two shards that listen on a socket bound by frontd, as without systemd.
    fn listening(folder: &std::path::Path) -> (Arc<Shared>, SocketAddr, Vec<Bound>) {
        let mut shared = testing::shared(folder, &[]);
        shared.config.shards = std::num::NonZeroUsize::new(2).unwrap();
        shared.config.http = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        shared.config.https = Vec::new();
        let bound = crate::listen::sockets::bind_clients(&shared.config).unwrap();
        (Arc::new(shared), bound[0].address().unwrap(), bound)
    }

    #[tokio::test]
    async fn connections_in_the_accept_queue_are_served_during_a_drain() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, address, bound) = listening(folder.path());
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        shared.drain.cancel();
        let shards = start(&shared, &bound).unwrap();
        drop(bound);
        for mut client in clients {
            client.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        shards.into_iter().for_each(|it| it.join().unwrap());
    }

    #[tokio::test]
    async fn new_clients_are_refused_while_a_drain_waits_for_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, address, bound) = listening(folder.path());
        let shards = start(&shared, &bound).unwrap();
        drop(bound);
        let mut old = TcpStream::connect(address).await.unwrap();
        old.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n").await.unwrap();
        while shared.metrics.connections.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shared.drain.cancel();
        let refused = async {
            while let Ok(accepted) = TcpStream::connect(address).await {
                drop(accepted);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("new clients are still accepted");
        assert!(shards.iter().any(|it| !it.is_finished()), "the drain did not wait");
        old.write_all(b"\r\n").await.unwrap();
        let mut answer = String::new();
        old.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        shards.into_iter().for_each(|it| it.join().unwrap());
    }
}
