//! Interrupts a call into the app that exceeds its request's limit: logs the stack of its thread, and raises
//! `imperium.RequestTimeout` in it.
//!
//! Both need the GIL, which C code may hold for any time, so each interruption runs on its own thread.
#![expect(unsafe_code, reason = "raising in another thread, and signalling it, are C's")]

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyBaseException, PyKeyError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyType};

use crate::link::deadline::{Cause, ThreadId};
use crate::link::exchange::Exchange;

pyo3::create_exception!(
    imperium,
    RequestTimeout,
    PyBaseException,
    "The request exceeded `timeouts.request` and its client received an error; or its response sent nothing for \
     `timeouts.idle` and was cut off.\n\n\
     Raised inside the app, wherever it is. It isn't an `Exception`, so that an `except Exception` in a retry loop or \
     framework doesn't continue with a request that nobody waits for. `finally` and `with` clean up as usual."
);

pyo3::create_exception!(
    imperium,
    ClientGone,
    RequestTimeout,
    "The client disconnected some seconds ago while it received a response, and the app hasn't noticed.\n\n\
     A subclass of `RequestTimeout`, raised in the same way: the same handlers clean up after it."
);

/// Raises exceptions in threads.
#[derive(Default)]
pub(crate) struct Interrupter {
    /// The request that the last signal to the main thread was sent for.
    for_main: Mutex<Weak<Exchange>>,
    /// The number of that signal; 0 before the handler is installed.
    signal: i32,
}

impl Interrupter {
    /// Installs the handler of the signal that interrupts blocking calls of the main thread. Call this on the
    /// main thread.
    pub(crate) fn install(py: Python<'_>) -> PyResult<Arc<Self>> {
        let module = py.import("_signal")?;
        let signal: i32 = module.getattr("SIGRTMAX")?.extract::<i32>()? - 1;
        let interrupter = Arc::new(Self { signal, ..Self::default() });
        let handling = Arc::clone(&interrupter);
        let handler = PyCFunction::new_closure(py, None, None, move |_, _| handling.signalled())?;
        module.call_method1("signal", (signal, handler))?;
        Ok(interrupter)
    }

    /// Logs the stack of the thread that runs `exchange`, and raises an exception in it, as soon as the GIL
    /// is available.
    pub(crate) fn interrupt(self: &Arc<Self>, exchange: Arc<Exchange>, age: Duration) {
        let interrupter = Arc::clone(self);
        let run = move || {
            let _python_has_ended = Python::try_attach(|py| {
                exchange.deadline.reach();
                log_stack(py, &exchange, age);
                interrupter.raise(py, &exchange);
            });
            // End all waits for the client inside the app.
            exchange.cancel();
        };
        if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(run) {
            tracing::error!(%error, "start a thread to interrupt a request that takes too long");
        }
    }

    /// The GIL is held, so the thread can neither leave the app nor start another request meanwhile.
    fn raise(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        let Some(thread) = exchange.deadline.runner() else { return };
        if is_main(thread) {
            // Only a signal interrupts a blocking system call. Its handler raises the exception.
            *self.for_main.lock() = Arc::downgrade(exchange);
            signal(thread, self.signal);
        } else if exchange.deadline.is_to_be_raised() {
            let class = match exchange.deadline.cause() {
                Cause::Request | Cause::Idle => py.get_type::<RequestTimeout>(),
                Cause::ClientGone => py.get_type::<ClientGone>(),
            };
            raise_in(&class, thread);
        }
    }

    /// Runs in the main thread at some time after the signal. The request may have ended meanwhile.
    fn signalled(&self) -> PyResult<()> {
        let exchange = std::mem::take(&mut *self.for_main.lock()).upgrade();
        exchange.and_then(|it| due(&it)).map_or(Ok(()), Err)
    }
}

/// Returns the calling thread, which holds the GIL.
pub(crate) fn this_thread() -> ThreadId {
    // SAFETY: has no precondition.
    let ident = unsafe { ffi::PyThread_get_thread_ident() };
    ThreadId { ident, id: rustix::thread::gettid().as_raw_nonzero().get() }
}

/// The calling thread has left the app. No exception is raised in it for `exchange` any more.
pub(crate) fn leave(py: Python<'_>, exchange: &Exchange) {
    if exchange.deadline.leave()
        && let Some(thread) = exchange.deadline.runner()
    {
        forget(py, thread);
    }
}

/// Returns the exception for `exchange`, if a limit was exceeded and the calling thread runs it.
///
/// It is returned once. Other threads of the app only learn that what they wait for won't arrive: the
/// request's own call has to end, but they may continue.
pub(crate) fn due(exchange: &Exchange) -> Option<PyErr> {
    let runs_it = exchange.deadline.is_over() && exchange.deadline.runner() == Some(this_thread());
    (runs_it && exchange.deadline.is_to_be_raised()).then(|| error(exchange))
}

fn error(exchange: &Exchange) -> PyErr {
    let limit = exchange.deadline.limit();
    match exchange.deadline.cause() {
        Cause::Request => RequestTimeout::new_err(format!("the request took longer than {limit:?}")),
        Cause::Idle => RequestTimeout::new_err(format!("the response sent nothing for {limit:?}")),
        Cause::ClientGone => ClientGone::new_err("the client has disconnected"),
    }
}

fn log_stack(py: Python<'_>, exchange: &Exchange, age: Duration) {
    if !exchange.deadline.is_over() {
        return;
    }
    if exchange.deadline.cause() == Cause::ClientGone {
        return log_client_gone(exchange, age);
    }
    if !exchange.deadline.is_to_be_logged() {
        return;
    }
    let stack = exchange.deadline.runner().map(|thread| stack(py, thread));
    let stack = stack.unwrap_or_else(|| Ok("it has not reached the app".to_owned()));
    let stack = stack.unwrap_or_else(|error| format!("its stack cannot be read: {error}"));
    let (method, path) = (exchange.method(), exchange.path());
    let (request, limit) = (exchange.request_id(), exchange.deadline.limit());
    match exchange.deadline.cause() {
        Cause::Request => tracing::warn!(
            method,
            path,
            request,
            ?age,
            "a request exceeded its limit of {limit:?}: interrupting it\n{stack}"
        ),
        Cause::Idle | Cause::ClientGone => tracing::warn!(
            method,
            path,
            request,
            ?age,
            "a response sent nothing for {limit:?}: interrupting it\n{stack}"
        ),
    }
}

/// Clients disconnect all the time: the stack is of interest only if the app doesn't stop ([`crate::life::watchdog`]).
fn log_client_gone(exchange: &Exchange, age: Duration) {
    let (method, path) = (exchange.method(), exchange.path());
    tracing::debug!(
        method,
        path,
        request = exchange.request_id(),
        ?age,
        "the client of a response has left, and the app continues: interrupting it"
    );
}

/// The stack of a thread, formatted like a traceback.
fn stack(py: Python<'_>, thread: ThreadId) -> PyResult<String> {
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let frame = frames.get_item(thread.ident);
    let frame = frame.map_err(|error| match error.is_instance_of::<PyKeyError>(py) {
        true => PyKeyError::new_err("the thread isn't running Python code"),
        false => error,
    })?;
    let lines = py.import("traceback")?.call_method1("format_stack", (frame,))?.extract::<Vec<String>>()?;
    Ok(format!("Stack (most recent call last):\n{}", lines.concat().trim_end()))
}

fn is_main(thread: ThreadId) -> bool {
    thread.id.cast_unsigned() == std::process::id()
}

/// Sends a signal to one thread of this process.
pub(crate) fn signal(thread: ThreadId, signal: i32) {
    let process = std::process::id().cast_signed();
    // SAFETY: takes only numbers. An unknown thread or signal causes an error.
    let _it_has_ended = unsafe { libc::syscall(libc::SYS_tgkill, process, thread.id, signal) };
}

/// Raises `class` in a thread, once it runs Python code again. The caller knows that the thread is still
/// running what has to be interrupted: it holds the GIL, as does `forget`, which is called afterwards.
pub(crate) fn raise_in(class: &Bound<'_, PyType>, thread: ThreadId) {
    set_pending(thread, class.as_ptr());
}

/// Cancels an exception that hasn't been raised yet.
pub(crate) fn forget(_py: Python<'_>, thread: ThreadId) {
    set_pending(thread, std::ptr::null_mut());
}

/// Sets the exception to raise in a thread once it runs Python code again; a null pointer cancels it.
/// Requires the GIL.
fn set_pending(thread: ThreadId, exception: *mut ffi::PyObject) {
    // SAFETY: the caller holds the GIL. The exception is null or a class that is never freed.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.ident.cast_signed(), exception) };
}
