//! What becomes of an exception of the app: it is logged, and in development added to the response.

use api::runner::{Failure, Header, Response};
use api::worker::Spec;
use bytes::Bytes;
use pyo3::prelude::*;

use crate::link::active::ActiveRequest;
use crate::python::interrupt::{ClientGone, RequestTimeout};
use crate::python::{forked, traceback};

/// The largest size of a traceback, in bytes. The rest is cut off.
const LIMIT: usize = 64 << 10;

/// Who sees the app's exceptions, apart from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// Nobody.
    Hidden,
    /// The developer: each traceback is sent to frontd.
    Shown,
}

impl Failures {
    /// The mode that the spec asks for.
    pub(crate) fn of(spec: &Spec) -> Self {
        if spec.development { Self::Shown } else { Self::Hidden }
    }

    /// Adds the traceback of `error` to `response`, if it may be shown.
    pub(crate) fn explain(self, py: Python<'_>, error: &PyErr, response: Response) -> Response {
        match self {
            Self::Hidden => response,
            Self::Shown => {
                let traceback = end_of(traceback::of(py, error), LIMIT);
                Response { failure: Some(Box::new(Failure { traceback })), ..response }
            }
        }
    }
}

/// The response if the app failed before it started one.
pub(crate) fn server_error(id: u64) -> Response {
    let name = Bytes::from_static(b"content-type");
    let headers = vec![Header { name, value: Bytes::from_static(b"text/plain; charset=utf-8") }];
    let body = Bytes::from_static(b"Internal Server Error\n");
    Response { id, status: 500, headers, body, ..Response::default() }
}

/// Logs an exception of the app as one event. If it only reports that the client has disconnected, it isn't an error.
/// In a process that the app has forked, a `SystemExit` ends that process.
pub(crate) fn log(py: Python<'_>, error: &PyErr, active: &ActiveRequest) {
    forked::end_if_forked_by(py, error);
    let (method, path, request_id) = (active.method(), active.path(), active.request_id());
    let traceback = || traceback::of(py, error);
    if error.is_instance_of::<ClientGone>(py) {
        tracing::debug!(%method, %path, request = %request_id, "the request whose client has gone has ended");
    } else if error.is_instance_of::<RequestTimeout>(py) {
        tracing::info!(%method, %path, request = %request_id, "the request that exceeded its limit has ended");
    } else if active.is_gone() && !active.deadline.is_over() {
        tracing::debug!(%method, %path, request = %request_id, "the client has disconnected\n{}", traceback());
    } else {
        tracing::error!(%method, %path, request = %request_id, "the app raised an exception\n{}", traceback());
    }
}

/// The last `limit` bytes, which include the error.
fn end_of(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.drain(..text.ceil_char_boundary(text.len() - limit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_traceback_is_kept() {
        assert_eq!(end_of("a\nb".to_owned(), 3), "a\nb");
        assert_eq!(end_of("éé".to_owned(), 3), "é");
    }
}
