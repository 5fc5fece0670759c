//! The requests that were sent, from the clients' view.

use std::fmt;
use std::time::Duration;

use super::outcome::Outcome;
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

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, app, question, sent, done, outcome } = self;
        write!(f, "request {id} of {app}, {question}, from {sent:.3?} to {done:.3?}: {outcome:?}")
    }
}
