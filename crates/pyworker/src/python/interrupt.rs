//! Interrupts a call of the app that exceeds its request's limit: the exceptions that are raised in it, and what is
//! logged about it. How they get there depends on the executor.

use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::link::active::ActiveRequest;
use crate::link::deadline::Cause;
use crate::link::token::CallToken;

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

/// The class of the exception for `cause`.
pub(crate) fn class(py: Python<'_>, cause: Cause) -> Bound<'_, PyType> {
    match cause {
        Cause::Request | Cause::Idle => py.get_type::<RequestTimeout>(),
        Cause::ClientGone => py.get_type::<ClientGone>(),
    }
}

/// Returns the exception for `active`, if a limit was exceeded and `this_call`, which is calling this, is the
/// request's own call.
///
/// It is returned once. Other threads of the app only learn that what they wait for won't arrive: the
/// request's own call has to end, but they may continue.
pub(crate) fn due(active: &ActiveRequest, this_call: CallToken) -> Option<PyErr> {
    let is_its_call = active.deadline.is_over() && active.deadline.token() == Some(this_call);
    (is_its_call && active.deadline.is_to_be_raised()).then(|| error(active))
}

/// The exception for the limit that `active` has exceeded.
pub(crate) fn error(active: &ActiveRequest) -> PyErr {
    let limit = active.deadline.limit();
    match active.deadline.cause() {
        Cause::Request => RequestTimeout::new_err(format!("the request took longer than {limit:?}")),
        Cause::Idle => RequestTimeout::new_err(format!("the response sent nothing for {limit:?}")),
        Cause::ClientGone => ClientGone::new_err("the client has disconnected"),
    }
}

/// Logs that the call of `active` is interrupted, with its stack, if that is still the case.
pub(crate) fn log(active: &ActiveRequest, age: Duration, stack: impl FnOnce() -> String) {
    if !active.deadline.is_over() {
        return;
    }
    if active.deadline.cause() == Cause::ClientGone {
        return log_client_gone(active, age);
    }
    if !active.deadline.is_to_be_logged() {
        return;
    }
    let stack = stack();
    let (method, path) = (active.method(), active.path());
    let (request, limit) = (active.request_id(), active.deadline.limit());
    match active.deadline.cause() {
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

/// Clients disconnect all the time: the stack is of interest only if the app doesn't stop.
fn log_client_gone(active: &ActiveRequest, age: Duration) {
    let (method, path) = (active.method(), active.path());
    tracing::debug!(
        method,
        path,
        request = active.request_id(),
        ?age,
        "the client of a response has left, and the app continues: interrupting it"
    );
}
