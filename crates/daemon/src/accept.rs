//! An accept loop that no error ends, and that does not spin when descriptors run out.

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

/// The first pause after an error; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Connections that are closed at most between two pauses.
const CLOSED_AT_ONCE: usize = 64;
/// An error after so long without one is a new incident, and is logged again.
const INCIDENT: Duration = Duration::from_secs(60);

/// A listening socket.
pub trait Listen {
    /// What a client's arrival gives.
    type Accepted;

    /// Accepts a connection, as the listeners of tokio do.
    ///
    /// # Errors
    /// As accept(2).
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

/// Counts what accept loops could not do.
#[derive(Debug, Default)]
pub struct Tally {
    failed: AtomicU64,
    closed: AtomicU64,
}

impl Tally {
    /// How often the process, or the machine, had no descriptor or memory left for a connection.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Connections that were closed unserved because of that.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Accepts connections; its `accept` cannot fail.
///
/// Without descriptors it pauses, for 10 ms at first and up to 1 s. Connections wait in the backlog for one pause.
/// Those that cannot be served after it are closed, with a descriptor that is kept in reserve for this: a client that
/// is refused can try again, and one that is left waiting cannot.
#[derive(Debug)]
pub struct Acceptor<L> {
    listener: L,
    /// None while it cannot be had.
    reserve: Option<File>,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
    last_failure: Option<Instant>,
    /// Since a connection was accepted last.
    trouble: Trouble,
    tally: Arc<Tally>,
}

/// What an accept loop could not do for some time.
#[derive(Debug, Default)]
struct Trouble {
    failed: u64,
    closed: u64,
}

impl<L: Listen> Acceptor<L> {
    /// Accepts what comes to `listener`, and counts failures in `tally`.
    #[must_use]
    pub fn new(listener: L, tally: Arc<Tally>) -> Self {
        Self {
            listener,
            reserve: reserve(),
            pause: None,
            next_pause: FIRST_PAUSE,
            last_failure: None,
            trouble: Trouble::default(),
            tally,
        }
    }

    /// The socket.
    #[must_use]
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&mut self) -> L::Accepted {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As `accept`, for a stream.
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
                    if self.trouble.failed > 0 {
                        let Trouble { failed, closed } = std::mem::take(&mut self.trouble);
                        tracing::info!(failed, closed, "accepts connections again");
                    }
                    return Poll::Ready(accepted);
                }
                Err(error) if is_of_the_connection(&error) => {
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
        self.trouble = Trouble { failed: self.trouble.failed + 1, closed: self.trouble.closed + closed };
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

    /// Closes connections that wait, as far as the descriptor in reserve suffices for one after the other.
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

/// Whether accept(2) told an error of one connection, which says nothing about the next.
fn is_of_the_connection(error: &io::Error) -> bool {
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

    /// Leaves this process no descriptor until it is dropped.
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

    /// Whether this is the process of its own that such a test needs. If not, the test is run in one.
    fn runs_in_own_process(test: &str) -> bool {
        const MARK: &str = "TEST_RUNS_IN_OWN_PROCESS";
        if std::env::var_os(MARK).is_some() {
            return true;
        }
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        let run = own.args([test, "--exact", "--nocapture"]).env(MARK, "1").output().unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && told.contains("1 passed"),
            "{told}{}",
            String::from_utf8_lossy(&run.stderr)
        );
        false
    }

    #[tokio::test]
    async fn without_descriptors_it_pauses_and_closes_who_waits_and_goes_on() {
        if !runs_in_own_process(
            "accept::tests::without_descriptors_it_pauses_and_closes_who_waits_and_goes_on",
        ) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let tally = Arc::new(Tally::default());
        let mut acceptor = Acceptor::new(UnixListener::bind(&path).unwrap(), Arc::clone(&tally));
        let clients: Vec<Client> = (0..3).map(|_| Client::connect(&path).unwrap()).collect();
        let spent = Exhausted::new();

        let closed = async {
            for client in clients {
                client.set_nonblocking(true).unwrap();
                let mut client = UnixStream::from_std(client).unwrap();
                assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed, not left waiting");
            }
            assert_eq!(tally.closed(), 3);
            // Twice for the first pause, and what little time passed since: it does not spin.
            assert!(tally.failed() < 10, "{}", tally.failed());

            drop(spent);
            Client::connect(&path).unwrap()
        };
        let (_stream, _client) = tokio::join!(acceptor.accept(), closed);
        assert!(acceptor.reserve.is_some());
    }

    #[tokio::test]
    async fn without_descriptors_clients_over_tcp_are_closed_and_accepting_goes_on_afterwards() {
        if !runs_in_own_process(
            "accept::tests::without_descriptors_clients_over_tcp_are_closed_and_accepting_goes_on_afterwards",
        ) {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tally = Arc::new(Tally::default());
        let mut acceptor = Acceptor::new(listener, Arc::clone(&tally));
        let early = std::net::TcpStream::connect(address).unwrap();
        early.set_nonblocking(true).unwrap();
        let mut early = TcpStream::from_std(early).unwrap();
        let spent = Exhausted::new();

        let closed = async {
            assert_eq!(early.read(&mut [0]).await.unwrap(), 0, "closed, not left waiting");
            drop(spent);
            std::net::TcpStream::connect(address).unwrap()
        };
        let ((_stream, peer), late) = tokio::join!(acceptor.accept(), closed);
        assert_eq!(peer, late.local_addr().unwrap());
        assert!((1..20).contains(&tally.failed()) && tally.closed() == 1);
    }
}
