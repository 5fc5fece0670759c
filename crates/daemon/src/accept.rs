//! An accept loop that survives all errors, and doesn't spin when file descriptors run out.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

/// The first pause after an error. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of connections closed between two pauses.
const CLOSED_AT_ONCE: usize = 64;
/// An error after this long without one is logged again as a new incident.
const INCIDENT: Duration = Duration::from_secs(60);

/// A listening socket.
pub trait Listen {
    /// The result of an accept.
    type Accepted;

    /// Accepts a connection, like tokio's listeners.
    ///
    /// # Errors
    ///
    /// Returns the errors of accept(2).
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>>;
}

impl Listen for UnixListener {
    type Accepted = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        self.poll_accept(context).map_ok(|(stream, _)| stream)
    }
}

impl Listen for TcpListener {
    type Accepted = (TcpStream, SocketAddr);

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        self.poll_accept(context)
    }
}

/// Counts failed accepts.
#[derive(Debug, Default)]
pub struct AcceptErrors {
    failed: AtomicU64,
    closed: AtomicU64,
}

impl AcceptErrors {
    /// How often a connection couldn't be accepted, for lack of descriptors or memory in the process or the
    /// machine.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Connections that were closed without being served because of that.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Accepts connections. Its `accept` can't fail.
///
/// When descriptors run out, it pauses, for 10 ms at first and up to 1 s. Connections wait in the backlog for
/// one pause. Those that still can't be served after it are closed, with a descriptor that is reserved for
/// this: a client that is refused can try again, one that is left waiting can't.
#[derive(Debug)]
pub struct Acceptor<L> {
    listener: L,
    /// `None` while no descriptor is available.
    reserve: Option<File>,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    last_failure: Option<Instant>,
    /// Failures since the last accepted connection.
    failures: Failures,
    tally: Arc<AcceptErrors>,
}

/// Failures of an accept loop in some period.
#[derive(Debug, Default)]
struct Failures {
    failed: u64,
    closed: u64,
}

impl<L: Listen> Acceptor<L> {
    /// Accepts connections from `listener`, and counts failures in `tally`.
    #[must_use]
    pub fn new(listener: L, tally: Arc<AcceptErrors>) -> Self {
        Self {
            listener,
            reserve: reserve(),
            pause: None,
            next_pause: FIRST_PAUSE,
            last_failure: None,
            failures: Failures::default(),
            tally,
        }
    }

    /// The listening socket.
    #[must_use]
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// Accepts the next connection. Cancel safe.
    pub async fn accept(&mut self) -> L::Accepted {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// Like `accept`, for use in a stream.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<L::Accepted> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok(accepted) => {
                    self.next_pause = FIRST_PAUSE;
                    if self.reserve.is_none() {
                        self.reserve = reserve();
                    }
                    if self.failures.failed > 0 {
                        let Failures { failed, closed } = std::mem::take(&mut self.failures);
                        tracing::info!(failed, closed, "accepts connections again");
                    }
                    return Poll::Ready(accepted);
                }
                Err(error) if is_connection_error(&error) => {
                    tracing::debug!(%error, "client left before it was accepted");
                }
                Err(error) => self.failed(&error, context),
            }
        }
    }

    fn failed(&mut self, error: &io::Error, context: &mut Context<'_>) {
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
        let has_waited = self.next_pause > FIRST_PAUSE;
        let closed = if has_waited { self.close_waiting(context) } else { 0 };
        self.tally.closed.fetch_add(closed, Ordering::Relaxed);
        self.failures = Failures { failed: self.failures.failed + 1, closed: self.failures.closed + closed };
        let now = Instant::now();
        if self.last_failure.is_none_or(|last| now - last > INCIDENT) {
            tracing::error!(
                %error,
                "cannot accept connections: those that wait are closed unless it passes soon: see `ulimit -n`, or \
                 LimitNOFILE of the unit"
            );
        }
        self.last_failure = Some(now);
        self.pause = Some(Box::pin(sleep(self.next_pause)));
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
    }

    /// Closes waiting connections one by one, using the reserved descriptor.
    fn close_waiting(&mut self, context: &mut Context<'_>) -> u64 {
        let mut closed = 0;
        if self.reserve.take().is_some() {
            for _ in 0..CLOSED_AT_ONCE {
                let Poll::Ready(Ok(accepted)) = self.listener.poll_accept(context) else { break };
                drop(accepted);
                closed += 1;
            }
        }
        self.reserve = reserve();
        closed
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether an error of accept(2) concerns a single connection, and says nothing about the next one.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::unix::net::UnixStream as Client;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Uses up all file descriptors of this process until it is dropped.
    struct Exhausted {
        _files: Vec<File>,
        before: Rlimit,
    }

    impl Exhausted {
        fn new() -> Self {
            let before = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).unwrap();
            Self { _files: std::iter::from_fn(reserve).collect(), before }
        }
    }

    impl Drop for Exhausted {
        fn drop(&mut self) {
            setrlimit(Resource::Nofile, self.before).unwrap();
        }
    }

    /// Whether this is the separate process that such a test needs. If not, runs the test in one.
    fn runs_in_own_process(test: &str) -> bool {
        const MARK: &str = "TEST_RUNS_IN_OWN_PROCESS";
        if std::env::var_os(MARK).is_some() {
            return true;
        }
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        let run = own.args([test, "--exact", "--nocapture"]).env(MARK, "1").output().unwrap();
        let stdout = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && stdout.contains("1 passed"),
            "{stdout}{}",
            String::from_utf8_lossy(&run.stderr)
        );
        false
    }

    #[tokio::test]
    async fn without_descriptors_it_pauses_closes_waiting_clients_and_continues() {
        if !runs_in_own_process(
            "accept::tests::without_descriptors_it_pauses_closes_waiting_clients_and_continues",
        ) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let tally = Arc::new(AcceptErrors::default());
        let mut acceptor = Acceptor::new(UnixListener::bind(&path).unwrap(), Arc::clone(&tally));
        let clients: Vec<Client> = (0..3).map(|_| Client::connect(&path).unwrap()).collect();
        let exhausted = Exhausted::new();

        let closed = async {
            for client in clients {
                client.set_nonblocking(true).unwrap();
                let mut client = UnixStream::from_std(client).unwrap();
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the client was left waiting");
            }
            assert_eq!(tally.closed(), 3);
            // Twice for the first pause, and for the short time since then: it doesn't spin.
            assert!(tally.failed() < 10, "{}", tally.failed());

            drop(exhausted);
            Client::connect(&path).unwrap()
        };
        let (_stream, _client) = tokio::join!(acceptor.accept(), closed);
        assert!(acceptor.reserve.is_some());
    }

    #[tokio::test]
    async fn without_descriptors_tcp_clients_are_closed_and_accepting_continues_afterwards() {
        if !runs_in_own_process(
            "accept::tests::without_descriptors_tcp_clients_are_closed_and_accepting_continues_afterwards",
        ) {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tally = Arc::new(AcceptErrors::default());
        let mut acceptor = Acceptor::new(listener, Arc::clone(&tally));
        let early = std::net::TcpStream::connect(address).unwrap();
        early.set_nonblocking(true).unwrap();
        let mut early = TcpStream::from_std(early).unwrap();
        let exhausted = Exhausted::new();

        let closed = async {
            assert_eq!(early.read(&mut [0]).await.unwrap(), 0, "the client was left waiting");
            drop(exhausted);
            std::net::TcpStream::connect(address).unwrap()
        };
        let ((_stream, peer), late) = tokio::join!(acceptor.accept(), closed);
        assert_eq!(peer, late.local_addr().unwrap());
        assert!((1..20).contains(&tally.failed()) && tally.closed() == 1);
    }
}
