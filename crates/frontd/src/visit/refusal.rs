//! Why a connection's requests ended: what the head guard found, for the pages and the log.

use std::sync::{Arc, OnceLock};

use http::{Method, Request};

use super::violation::Violation;
use crate::observe::metrics::Metrics;

/// Why the requests on a connection ended. Set by the guard, read by those who respond.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    violation: Arc<OnceLock<Violation>>,
    metrics: Arc<Metrics>,
}

impl Refusal {
    /// The state of a new connection.
    pub(crate) fn none(metrics: Arc<Metrics>) -> Self {
        Self { violation: Arc::default(), metrics }
    }

    /// The violation on this connection, if there was one: in the current request or in a later one.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// The violation, if this request is the guard's replacement for an invalid one.
    pub(crate) fn of<B>(&self, request: &Request<B>) -> Option<Violation> {
        let violation = self.violation()?;
        (request.uri() == "*" && request.method() != Method::OPTIONS).then_some(violation)
    }

    /// Records the violation, and counts it.
    pub(crate) fn set(&self, violation: Violation) {
        self.metrics.refused(violation.name());
        let _is_the_first = self.violation.set(violation);
    }
}
