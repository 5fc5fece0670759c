//! Drives all I/O of the worker on one single-threaded runtime.
//!
//! With one Python thread, that thread drives the runtime while it waits, which saves a thread switch per
//! request. While it is inside the app, or waits for the GIL to enter it, a helper thread takes over, so that
//! heartbeats, cancellations, recalls and responses continue. With several Python threads, the helper always
//! drives.
//!
//! **Invariant:** nobody holds the GIL while waiting for the runtime, and no task of the runtime takes it.
//! **Invariant:** Python's thread never waits for the GIL while it has the right to drive: C code in another
//! thread may hold it for any time.

mod handoff;

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

use self::handoff::{Entered, Handoff, Left, Seen};
use super::forked;

/// How often the helper checks. A call that it sees twice is taken over.
const TICK: Duration = Duration::from_millis(5);
/// The number of checks without a call after which the helper sleeps.
const IDLE_TICKS: u32 = 4;

/// The runtime, and the state of who drives it.
pub(crate) struct Driver {
    runtime: Runtime,
    tasks: TaskTracker,
    /// Several threads run Python, so the helper drives.
    many_threads: AtomicBool,
    handoff: Handoff,
    /// The number of calls into the app so far.
    calls: AtomicU64,
    /// Tells the helper to stop driving.
    stop_driving: Notify,
    stopped: AtomicBool,
    helper: Mutex<Option<JoinHandle<()>>>,
    helper_thread: OnceLock<Thread>,
}

impl Driver {
    /// Starts a runtime with its helper, for one Python thread.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let driver = Arc::new(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            tasks: TaskTracker::new(),
            many_threads: AtomicBool::new(false),
            handoff: Handoff::default(),
            calls: AtomicU64::new(0),
            stop_driving: Notify::new(),
            stopped: AtomicBool::new(false),
            helper: Mutex::new(None),
            helper_thread: OnceLock::new(),
        });
        let driven = Arc::clone(&driver);
        let helper = thread::Builder::new().name("io-helper".to_owned()).spawn(move || driven.help())?;
        driver.helper_thread.get_or_init(|| helper.thread().clone());
        *driver.helper.lock() = Some(helper);
        Ok(driver)
    }

    /// Spawns a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.handle());
    }

    /// Waits for `future` with the GIL released, and drives I/O meanwhile if nobody else does. For code that
    /// is called from inside the app, on any thread.
    pub(crate) fn wait<F: Future<Output: Send> + Send>(&self, py: Python<'_>, future: F) -> F::Output {
        forked::end_if_forked();
        py.detach(|| self.runtime.block_on(future))
    }

    /// Like `wait`, for the thread that calls the app, while outside of the app. The output is processed
    /// inside.
    pub(crate) fn wait_to_enter<F: Future<Output: Send> + Send>(
        &self,
        py: Python<'_>,
        future: F,
    ) -> (F::Output, Inside<'_>) {
        forked::end_if_forked();
        // Enter before waiting for the GIL, since nobody would drive meanwhile.
        py.detach(|| (self.runtime.block_on(future), self.enter()))
    }

    /// Like `wait`, for the thread that calls the app, while outside of the app.
    pub(crate) fn wait_outside<F: Future<Output: Send> + Send>(
        &self,
        py: Python<'_>,
        future: F,
    ) -> F::Output {
        let (output, _inside) = self.wait_to_enter(py, future);
        output
    }

    /// Waits until everything sent so far has been passed to the kernel, whoever drives.
    pub(crate) async fn flushed(&self) {
        // A task that yields once runs again after all tasks that were ready have run and written.
        let _never_cancelled = self.tasks.spawn(tokio::task::yield_now()).await;
    }

    /// The calling thread is inside the app until the guard is dropped.
    pub(crate) fn enter(&self) -> Inside<'_> {
        if self.many_threads.load(Ordering::Relaxed) {
            return Inside(None);
        }
        let count = self.calls.load(Ordering::Relaxed);
        self.calls.store(count + 1, Ordering::Relaxed);
        if self.handoff.enter(count) == Entered::WakeHelper {
            self.wake_helper();
        }
        Inside(Some(self))
    }

    /// From now on, several threads run Python, and the helper always drives. Must not be called inside the
    /// app.
    pub(crate) fn run_many_threads(&self) {
        self.many_threads.store(true, Ordering::SeqCst);
        self.wake_helper();
    }

    /// Stops the helper and waits for it. Call this when there is nothing left to drive.
    pub(crate) fn stop(&self, py: Python<'_>) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stop_driving.notify_one();
        self.wake_helper();
        let helper = self.helper.lock().take();
        if let Some(helper) = helper {
            let _panicked = py.detach(|| helper.join());
        }
    }

    fn wake_helper(&self) {
        if let Some(helper) = self.helper_thread.get() {
            helper.unpark();
        }
    }

    fn help(&self) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            if self.many_threads.load(Ordering::SeqCst) {
                self.runtime.block_on(self.stop_driving.notified());
            } else if self.help_call() == Helped::Call {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
                thread::park_timeout(TICK);
            } else if self.handoff.park() {
                thread::park();
                idle = 0;
            }
        }
    }

    /// Watches the current call into the app, if there is one.
    fn help_call(&self) -> Helped {
        let Seen::InCall(call) = self.handoff.look() else { return Helped::Nothing };
        thread::park_timeout(TICK);
        if self.handoff.take_over(call) {
            self.runtime.block_on(self.stop_driving.notified());
        }
        Helped::Call
    }
}

#[derive(PartialEq, Eq)]
enum Helped {
    Call,
    Nothing,
}

/// Marks Python's thread as being inside the app.
pub(crate) struct Inside<'a>(Option<&'a Driver>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0
            && driver.handoff.leave() == Left::AskBack
        {
            driver.stop_driving.notify_one();
        }
    }
}
