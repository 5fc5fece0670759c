//! Adds the app's exception to the response of a failed request, in development.

use api::runner::{Failure, Response};
use api::worker::Spec;
use pyo3::prelude::*;

use crate::python::traceback;

/// The largest size of a traceback, in bytes. The rest is cut off.
const LIMIT: usize = 64 << 10;

/// Who sees the app's exceptions, apart from the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Failures {
    /// Nobody.
    #[default]
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
