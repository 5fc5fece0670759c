//! Interrupts calls of the app that each have a thread: logs the stack of the thread, and raises
//! `imperium.RequestTimeout` in it.
//!
//! Both need the GIL, which C code may hold for any time, so each interruption runs on its own thread.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::executor::Interrupt;
use crate::link::active::ActiveRequest;
use crate::link::token::CallToken;
use crate::python::faulthandler::Dump;
use crate::python::interrupt;
use crate::python::thread::{self as python_thread, ThreadId};

/// The threads that call the app.
#[derive(Debug, Default)]
pub(super) struct ThreadTable(Mutex<Vec<ThreadId>>);

impl ThreadTable {
    /// Adds the calling thread. Returns it, and the token of its calls: it makes one at a time.
    pub(super) fn add_this(&self) -> (ThreadId, CallToken) {
        let thread = ThreadId::current();
        self.0.lock().push(thread);
        (thread, this_call())
    }

    fn find(&self, call: CallToken) -> Option<ThreadId> {
        self.0.lock().iter().copied().find(|it| token(it.id()) == call)
    }
}

/// The call that the calling thread may be in.
pub(super) fn this_call() -> CallToken {
    token(python_thread::current_id())
}

fn token(thread: NonZeroU32) -> CallToken {
    CallToken::new(NonZeroU64::from(thread))
}

/// Returns the exception for `active`, if a limit was exceeded and the calling thread runs it. It is returned once.
pub(super) fn due(active: &ActiveRequest) -> Option<PyErr> {
    interrupt::due(active, this_call())
}

/// Raises exceptions in threads.
pub(crate) struct Interrupter {
    raiser: Arc<Raiser>,
    dump: Arc<Dump>,
}

struct Raiser {
    threads: Arc<ThreadTable>,
    /// The request that the last signal to the main thread was sent for.
    for_main: Mutex<Weak<ActiveRequest>>,
    /// The number of that signal.
    signal: i32,
}

impl Interrupter {
    /// Installs the handler of the signal that interrupts blocking calls of the main thread. Call this on the
    /// main thread.
    pub(super) fn install(py: Python<'_>, threads: &Arc<ThreadTable>, dump: &Arc<Dump>) -> PyResult<Self> {
        let module = py.import("_signal")?;
        let signal: i32 = module.getattr("SIGRTMAX")?.extract::<i32>()? - 1;
        let raiser = Arc::new(Raiser { threads: Arc::clone(threads), for_main: Mutex::default(), signal });
        let handling = Arc::clone(&raiser);
        let handler = PyCFunction::new_closure(py, None, None, move |_, _| handling.signalled())?;
        module.call_method1("signal", (signal, handler))?;
        Ok(Self { raiser, dump: Arc::clone(dump) })
    }
}

impl Interrupt for Interrupter {
    fn interrupt(&self, active: Arc<ActiveRequest>, age: Duration) {
        let raiser = Arc::clone(&self.raiser);
        let run = move || {
            let _python_has_ended = Python::try_attach(|py| {
                active.deadline.reach();
                interrupt::log(&active, age, || raiser.stack(py, &active));
                raiser.raise(py, &active);
            });
            // End all waits for the client inside the app.
            active.cancel();
        };
        if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(run) {
            tracing::error!(%error, "start a thread to interrupt a request that takes too long");
        }
    }

    async fn stack(&self, call: CallToken) -> String {
        match self.raiser.threads.find(call) {
            Some(thread) => self.dump.of(thread).await,
            None => "its stack cannot be read: its thread is unknown".to_owned(),
        }
    }
}

impl Raiser {
    fn thread(&self, active: &ActiveRequest) -> Option<ThreadId> {
        self.threads.find(active.deadline.token()?)
    }

    fn stack(&self, py: Python<'_>, active: &ActiveRequest) -> String {
        let stack = self.thread(active).map(|thread| thread.stack(py));
        let stack = stack.unwrap_or_else(|| Ok("it has not reached the app".to_owned()));
        stack.unwrap_or_else(|error| format!("its stack cannot be read: {error}"))
    }

    /// The GIL is held, so the thread can neither leave the app nor start another request meanwhile.
    fn raise(&self, py: Python<'_>, active: &Arc<ActiveRequest>) {
        let Some(thread) = self.thread(active) else { return };
        if thread.is_main() {
            // Only a signal interrupts a blocking system call. Its handler raises the exception.
            *self.for_main.lock() = Arc::downgrade(active);
            thread.signal(self.signal);
        } else if active.deadline.is_to_be_raised() {
            thread.raise(&interrupt::class(py, active.deadline.cause()));
        }
    }

    /// Runs in the main thread at some time after the signal. The request may have ended meanwhile.
    fn signalled(&self) -> PyResult<()> {
        let active = std::mem::take(&mut *self.for_main.lock()).upgrade();
        active.and_then(|it| due(&it)).map_or(Ok(()), Err)
    }
}
