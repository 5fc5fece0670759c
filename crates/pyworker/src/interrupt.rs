//! Ends a call of the app that is over its request's limit: the stack of its thread goes to the log, and
//! `imperium.RequestTimeout` is raised in it.
//!
//! Both need the GIL, which C code may hold for as long as it likes: so each is done on a thread of its own.
#![expect(unsafe_code, reason = "raising in another thread, and signalling it, are C's")]

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyBaseException, PyKeyError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyType};

use crate::deadline::{Cause, ThreadId};
use crate::exchange::Exchange;

pyo3::create_exception!(
    imperium,
    RequestTimeout,
    PyBaseException,
    "The request took longer than its limit (`timeouts.request`), and its client was told so; or its response gave \
     nothing for too long (`timeouts.idle`), and was cut.\n\n\
     Raised inside of the app, wherever it was. Not an `Exception`, so that no `except Exception` of a retry or \
     of a framework goes on with what nobody waits for; `finally` and `with` clean up as ever."
);

pyo3::create_exception!(
    imperium,
    ClientGone,
    RequestTimeout,
    "The client of a response that had begun left some seconds ago, and the app has not noticed.\n\n\
     Raised as `RequestTimeout` is, of which it is a kind: what cleans up after that cleans up after this."
);

/// Raises in a thread.
#[derive(Default)]
pub(crate) struct Interrupter {
    /// Whom the signal is for that was sent to the main thread last.
    for_main: Mutex<Weak<Exchange>>,
    /// That signal; 0 before it is handled.
    signal: i32,
}

impl Interrupter {
    /// Handles the signal that ends what blocks the main thread. For the main thread.
    pub(crate) fn install(py: Python<'_>) -> PyResult<Arc<Self>> {
        let module = py.import("_signal")?;
        let signal: i32 = module.getattr("SIGRTMAX")?.extract::<i32>()? - 1;
        let interrupter = Arc::new(Self { signal, ..Self::default() });
        let handling = Arc::clone(&interrupter);
        let handler = PyCFunction::new_closure(py, None, None, move |_, _| handling.signalled())?;
        module.call_method1("signal", (signal, handler))?;
        Ok(interrupter)
    }

    /// Logs the stack of the thread that runs the app for `exchange`, and raises in it, as soon as the GIL allows it.
    pub(crate) fn interrupt(self: &Arc<Self>, exchange: Arc<Exchange>, age: Duration) {
        let interrupter = Arc::clone(self);
        let run = move || {
            let _python_has_ended = Python::try_attach(|py| {
                exchange.deadline.reach();
                log_stack(py, &exchange, age);
                interrupter.raise(py, &exchange);
            });
            // What waits for the client inside of the app waits no more.
            exchange.cancel();
        };
        if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(run) {
            tracing::error!(%error, "start a thread to end a request that takes too long");
        }
    }

    /// The GIL is held: the thread can neither leave the app nor begin with something else meanwhile.
    fn raise(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        let Some(thread) = exchange.deadline.runner() else { return };
        if is_main(thread) {
            // Only a signal ends a system call that blocks; the handler raises.
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

    /// Runs in the main thread, at some time after the signal: what it was for may be over.
    fn signalled(&self) -> PyResult<()> {
        let exchange = std::mem::take(&mut *self.for_main.lock()).upgrade();
        exchange.and_then(|it| due(&it)).map_or(Ok(()), Err)
    }
}

/// The thread that calls this, which has the GIL.
pub(crate) fn this_thread() -> ThreadId {
    // SAFETY: has no precondition.
    let ident = unsafe { ffi::PyThread_get_thread_ident() };
    ThreadId { ident, id: rustix::thread::gettid().as_raw_nonzero().get() }
}

/// The calling thread is done with the app for `exchange`: nothing is raised in it any more on that account.
pub(crate) fn leave(py: Python<'_>, exchange: &Exchange) {
    if exchange.deadline.leave()
        && let Some(thread) = exchange.deadline.runner()
    {
        forget(py, thread);
    }
}

/// The exception for `exchange`, if a limit of it is over and the calling thread is the one that runs the app for it.
///
/// Given once. Other threads of the app learn only that what they wait for won't come: the call has to be ended, and they
/// may go on for as long as they like.
pub(crate) fn due(exchange: &Exchange) -> Option<PyErr> {
    let runs_it = exchange.deadline.is_over() && exchange.deadline.runner() == Some(this_thread());
    (runs_it && exchange.deadline.is_to_be_raised()).then(|| error(exchange))
}

fn error(exchange: &Exchange) -> PyErr {
    let limit = exchange.deadline.limit();
    match exchange.deadline.cause() {
        Cause::Request => RequestTimeout::new_err(format!("the request took longer than {limit:?}")),
        Cause::Idle => RequestTimeout::new_err(format!("the response sent nothing for {limit:?}")),
        Cause::ClientGone => ClientGone::new_err("the client has gone"),
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

/// Clients leave all the time: the stack is of interest only if the app does not end ([`crate::watch`]).
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

/// Where a thread is, as Python's tracebacks tell it.
fn stack(py: Python<'_>, thread: ThreadId) -> PyResult<String> {
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let frame = frames.get_item(thread.ident);
    let frame = frame.map_err(|error| match error.is_instance_of::<PyKeyError>(py) {
        true => PyKeyError::new_err("the thread runs no Python"),
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
    // SAFETY: takes numbers alone; one that names no thread, or no signal, gives an error.
    let _it_has_ended = unsafe { libc::syscall(libc::SYS_tgkill, process, thread.id, signal) };
}

/// Has `class` raised in a thread, once it runs Python again. The caller knows that it still is at what is to be ended: it
/// holds the GIL, as `forget` does when that is over.
pub(crate) fn raise_in(class: &Bound<'_, PyType>, thread: ThreadId) {
    set_pending(thread, class.as_ptr());
}

/// Nothing is to be raised in the thread any more.
pub(crate) fn forget(_py: Python<'_>, thread: ThreadId) {
    set_pending(thread, std::ptr::null_mut());
}

/// Has an exception raised in a thread once it runs Python again; none with a null pointer. With the GIL held.
fn set_pending(thread: ThreadId, exception: *mut ffi::PyObject) {
    // SAFETY: the caller holds the GIL; the exception is a class, which is never freed, or null.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.ident.cast_signed(), exception) };
}
