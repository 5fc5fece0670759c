//! The outcomes of all requests, from the clients' view.

use std::fmt;
use std::time::Duration;

use super::question::Question;
use super::site::App;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) app: App,
    pub(crate) question: Question,
    /// When it was sent, since the start of the soak.
    pub(crate) sent: Duration,
    /// When its outcome was known.
    pub(crate) done: Duration,
    pub(crate) outcome: Outcome,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The expected status and content.
    Right,
    /// An unexpected status.
    Status(u16),
    /// The expected status with unexpected content.
    Wrong(Box<str>),
    /// The response was cut off after its head.
    Cut(Box<str>),
    /// There was no response.
    NoResponse(Box<str>),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, app, question, sent, done, outcome } = self;
        write!(f, "request {id} of {app}, {question}, from {sent:.3?} to {done:.3?}: {outcome:?}")
    }
}
