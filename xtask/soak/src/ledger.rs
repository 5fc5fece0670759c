//! What became of each request, as its client saw it.

use std::fmt;
use std::time::Duration;

use super::question::Question;
use super::site::App;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) app: App,
    pub(crate) question: Question,
    /// When it was sent, since the soak began.
    pub(crate) sent: Duration,
    /// When its outcome was known.
    pub(crate) done: Duration,
    pub(crate) outcome: Outcome,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The status and the content that were due.
    Right,
    /// Another status than was due.
    Status(u16),
    /// The status that was due, and another content.
    Wrong(Box<str>),
    /// The response broke off after its head.
    Cut(Box<str>),
    /// There was none.
    NoResponse(Box<str>),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, app, question, sent, done, outcome } = self;
        write!(f, "request {id} of {app}, {question}, from {sent:.3?} to {done:.3?}: {outcome:?}")
    }
}
