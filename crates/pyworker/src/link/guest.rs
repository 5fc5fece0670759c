//! Runs the connections from frontd as a guest of another event loop, which owns the thread: an app's asyncio.
//!
//! The other loop watches one descriptor ([`Guest::descriptor`]). Whenever that is readable, it calls
//! [`Guest::turn`], which reads what has arrived, runs all tasks that can continue, and writes what they send. So no
//! request costs a thread switch. A tokio runtime can't be such a guest: each turn of it writes to its own wake-up
//! descriptor, which makes it readable again.

mod reactor;
mod socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use parking_lot::Mutex;

use self::reactor::Reactor;
pub(crate) use self::socket::Socket;

/// The number of rounds in one turn. After that, the other loop runs first.
const ROUNDS: u32 = 64;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of the connections.
///
/// ```text
///            wake: writes to the descriptor                 turn
///   Resting ───────────────────────────────▶ Resting|DIRTY ──────▶ TURNING ──▶ Resting
///      │ promise: the other loop will call `turn` anyway            ▲
///      └──────────────▶ PROMISED (a wake writes nothing) ───────────┘
/// ```
pub(crate) struct Guest {
    tasks: Mutex<FuturesUnordered<Task>>,
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    reactor: Arc<Reactor>,
    state: AtomicU8,
    /// Tasks that haven't been polled yet.
    spawned: Mutex<Vec<Task>>,
    /// How often the other loop has made a turn, or promised one: it isn't blocked.
    progress: AtomicU64,
}

/// A task can continue.
const DIRTY: u8 = 1;
/// A turn is being made.
const TURNING: u8 = 2;
/// The other loop will make a turn, whatever happens.
const PROMISED: u8 = 4;

/// Whether to ask the kernel which sockets are ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sockets {
    Poll,
    AsKnown,
}

impl Guest {
    /// Creates a guest without connections.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            reactor: Arc::new(Reactor::new()?),
            state: AtomicU8::new(0),
            spawned: Mutex::default(),
            progress: AtomicU64::new(0),
        });
        let waker = Waker::from(Arc::clone(&shared));
        Ok(Arc::new(Self { tasks: Mutex::default(), shared, waker }))
    }

    /// Readable while a turn has something to do, unless that was promised.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.reactor.as_fd()
    }

    /// Adds a task. It runs in the next turn.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.executor().execute(task);
    }

    /// Adds the tasks of a connection.
    pub(crate) fn executor(&self) -> Spawner {
        Spawner(Arc::clone(&self.shared))
    }

    /// Makes the socket of a connection usable in tasks.
    ///
    /// # Errors
    /// If the kernel can't watch it.
    pub(crate) fn socket(&self, stream: std::os::unix::net::UnixStream) -> io::Result<Socket> {
        Socket::new(stream, &self.shared.reactor)
    }

    /// The other loop is about to make a turn, so nobody has to wake it. Returns whether that is new: then the caller
    /// schedules the turn.
    pub(crate) fn promise(&self) -> bool {
        let is_new = self.shared.state.fetch_or(PROMISED, Ordering::SeqCst) & PROMISED == 0;
        if is_new {
            self.shared.progress.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// The promised turn will not be made: the other loop is woken instead.
    pub(crate) fn break_promise(&self) {
        self.shared.state.fetch_and(!PROMISED, Ordering::SeqCst);
        self.shared.reactor.wake();
    }

    /// The turn that was promised has been made, if nothing is left to do. Returns whether that is so.
    pub(crate) fn end_promise(&self) -> bool {
        let rest = |state| if state & DIRTY == 0 { Some(state & !PROMISED) } else { None };
        self.shared.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest).is_ok()
    }

    /// Makes the promised turn, or one because the descriptor is readable.
    pub(crate) fn turn(&self) {
        self.shared.state.fetch_and(!PROMISED, Ordering::SeqCst);
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
        self.run(Sockets::Poll);
    }

    /// Changes while the other loop isn't blocked.
    pub(crate) fn progress(&self) -> u64 {
        self.shared.progress.load(Ordering::Relaxed)
    }

    /// Whether a turn would have something to do.
    pub(crate) fn is_due(&self) -> bool {
        self.shared.state.load(Ordering::SeqCst) & (DIRTY | PROMISED) != 0
            || self.shared.reactor.is_readable()
    }

    /// Makes a turn on behalf of the other loop, which is blocked. Then wakes that loop, since the turn took its
    /// reason to wake up.
    pub(crate) fn turn_for(&self) {
        self.run(Sockets::Poll);
        self.shared.reactor.wake();
    }

    /// Has the other loop make a turn, unless one is being made or was promised.
    pub(crate) fn nudge(&self) {
        self.shared.wake_by_ref();
    }

    /// Runs what has become due since the turn, within the same call of the other loop. What has arrived since is left
    /// to the next turn.
    pub(crate) fn run_again(&self) {
        if self.shared.state.load(Ordering::SeqCst) & DIRTY != 0 {
            self.run(Sockets::AsKnown);
        }
    }

    /// Runs all tasks that can continue, which may be the case more than once.
    fn run(&self, sockets: Sockets) {
        let Shared { reactor, state, spawned, .. } = &*self.shared;
        let mut tasks = self.tasks.lock();
        state.fetch_or(TURNING, Ordering::SeqCst);
        if sockets == Sockets::Poll {
            reactor.poll();
        }
        let mut context = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            state.fetch_and(!DIRTY, Ordering::SeqCst);
            tasks.extend(spawned.lock().drain(..));
            while let Poll::Ready(Some(())) = Pin::new(&mut *tasks).poll_next(&mut context) {}
            let rest = |state| if state & DIRTY == 0 { Some(state & !TURNING) } else { None };
            if state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest).is_ok() {
                return;
            }
        }
        state.fetch_and(!TURNING, Ordering::SeqCst);
        reactor.wake();
    }
}

/// Adds tasks to a guest.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<Shared>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        let task = async {
            task.await;
        };
        self.0.spawned.lock().push(Box::pin(task));
        self.0.wake_by_ref();
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(DIRTY, Ordering::SeqCst) == 0 {
            self.reactor.wake();
        }
    }
}

#[cfg(test)]
mod tests;
