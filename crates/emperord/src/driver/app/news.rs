//! What the developer is told once all workers of an app serve.

use std::time::Instant;

/// What the developer is told once all workers of an app serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// They have its changed files.
    Reloaded {
        /// When the change was noticed.
        began: Instant,
    },
    /// They started although nothing has changed since a failure that was reported.
    Recovered,
}
