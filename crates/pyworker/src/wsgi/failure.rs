//! What the response to a request that failed says of the app's exception.

use api::runner::{Failure, Response};
use api::worker::Spec;
use pyo3::prelude::*;

use crate::traceback;

/// Bytes that are kept of a traceback.
const LIMIT: usize = 64 << 10;

/// Who is told of the app's exceptions besides the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Failures {
    /// Nobody.
    #[default]
    Hidden,
    /// The developer: frontd is sent each traceback.
    Shown,
}

impl Failures {
    /// As emperord says.
    pub(crate) fn of(spec: &Spec) -> Self {
        if spec.development { Self::Shown } else { Self::Hidden }
    }

    /// `response`, which tells that the app failed, with what it may say of `error`.
    pub(super) fn explain(self, py: Python<'_>, error: &PyErr, response: Response) -> Response {
        match self {
            Self::Hidden => response,
            Self::Shown => {
                let traceback = end_of(traceback::of(py, error), LIMIT);
                Response { failure: Some(Box::new(Failure { traceback })), ..response }
            }
        }
    }
}

/// The last `limit` bytes, where Python names the error.
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
