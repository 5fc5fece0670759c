//! Drives all I/O of the worker, on one single-threaded runtime.
//!
//! With one Python thread, that thread drives as long as it waits, which saves the change of threads that
//! a request would cost otherwise. While it is inside the app a small thread, the minder, takes over, so
//! that heartbeats, cancels, recalls and answers go on. With several Python threads the minder drives always.
//!
//! **Invariant:** nobody holds the GIL while waiting for the runtime, and no task of the runtime takes it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::Python;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::forked;
use crate::seat::{Entered, Left, Seat, Seen};

/// How often the minder looks; a call that it sees twice is taken over.
const TICK: Duration = Duration::from_millis(5);
/// Looks that find nothing to mind, until the minder sleeps.
const IDLE_TICKS: u32 = 4;

/// The runtime, and who drives it.
pub(crate) struct Driver {
    runtime: Runtime,
    tasks: TaskTracker,
    /// Several threads run Python: the seat is the minder's.
    many_threads: AtomicBool,
    seat: Seat,
    /// Calls into the app so far.
    calls: AtomicU64,
    /// The minder is asked to leave the seat.
    leave_seat: Notify,
    stopped: AtomicBool,
    minder: Mutex<Option<JoinHandle<()>>>,
    minder_thread: OnceLock<Thread>,
}

impl Driver {
    /// A runtime with its minder, for one Python thread.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let driver = Arc::new(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            tasks: TaskTracker::new(),
            many_threads: AtomicBool::new(false),
            seat: Seat::default(),
            calls: AtomicU64::new(0),
            leave_seat: Notify::new(),
            stopped: AtomicBool::new(false),
            minder: Mutex::new(None),
            minder_thread: OnceLock::new(),
        });
        let minded = Arc::clone(&driver);
        let minder = thread::Builder::new().name("minder".to_owned()).spawn(move || minded.mind())?;
        driver.minder_thread.get_or_init(|| minder.thread().clone());
        *driver.minder.lock() = Some(minder);
        Ok(driver)
    }

    /// Runs a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.handle());
    }

    /// Waits for `future` with the GIL released; drives I/O meanwhile if nobody else does.
    pub(crate) fn wait<F: Future<Output: Send> + Send>(&self, py: Python<'_>, future: F) -> F::Output {
        forked::end_if_forked();
        py.detach(|| self.runtime.block_on(future))
    }

    /// Waits until what was sent so far is with the kernel, whoever drives.
    pub(crate) async fn flushed(&self) {
        // A task that steps back once is called again when all that was ready has run and written.
        let _never_cancelled = self.tasks.spawn(tokio::task::yield_now()).await;
    }

    /// The calling thread enters the app, until the guard is dropped.
    pub(crate) fn enter(&self) -> Inside<'_> {
        if self.many_threads.load(Ordering::Relaxed) {
            return Inside(None);
        }
        let count = self.calls.load(Ordering::Relaxed);
        self.calls.store(count + 1, Ordering::Relaxed);
        if self.seat.enter(count) == Entered::WakeMinder {
            self.wake_minder();
        }
        Inside(Some(self))
    }

    /// From here on several threads run Python: the minder takes the seat for good. Not to be called inside.
    pub(crate) fn run_many_threads(&self) {
        self.many_threads.store(true, Ordering::SeqCst);
        self.wake_minder();
    }

    /// Ends the minder and waits for it. To be called when nothing is left to be driven.
    pub(crate) fn stop(&self, py: Python<'_>) {
        self.stopped.store(true, Ordering::SeqCst);
        self.leave_seat.notify_one();
        self.wake_minder();
        if let Some(minder) = self.minder.lock().take() {
            let _panicked = py.detach(|| minder.join());
        }
    }

    fn wake_minder(&self) {
        if let Some(minder) = self.minder_thread.get() {
            minder.unpark();
        }
    }

    fn mind(&self) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            if self.many_threads.load(Ordering::SeqCst) {
                self.runtime.block_on(self.leave_seat.notified());
            } else if self.mind_call() == Minded::Call {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
                thread::park_timeout(TICK);
            } else if self.seat.park() {
                thread::park();
                idle = 0;
            }
        }
    }

    /// Looks after the call that is under way, if there is one.
    fn mind_call(&self) -> Minded {
        let Seen::Inside(call) = self.seat.look() else { return Minded::Nothing };
        thread::park_timeout(TICK);
        if self.seat.take_over(call) {
            self.runtime.block_on(self.leave_seat.notified());
        }
        Minded::Call
    }
}

#[derive(PartialEq, Eq)]
enum Minded {
    Call,
    Nothing,
}

/// Python's thread is inside the app.
pub(crate) struct Inside<'a>(Option<&'a Driver>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0
            && driver.seat.leave() == Left::AskBack
        {
            driver.leave_seat.notify_one();
        }
    }
}
