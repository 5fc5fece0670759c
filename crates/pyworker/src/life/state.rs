//! What emperord has to know of this worker.

use api::worker::{Failed, Ready};

/// The state of this worker that emperord has to know. The attachment reports what has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct WorkerState {
    /// The generation that it runs.
    pub(crate) generation: u64,
    /// Set once it serves.
    pub(crate) ready: Option<Ready>,
    /// It was told to drain, and is draining.
    pub(crate) draining: bool,
    /// A request can't be ended: this worker has to be replaced.
    pub(crate) is_stuck: bool,
    /// All its capacity is held by responses that nobody reads any more: it has to be replaced once another
    /// worker is ready.
    pub(crate) is_held: bool,
    /// Why it isn't ready yet, although it has imported its app.
    pub(crate) unwell: Option<String>,
    /// Set once it is about to exit.
    pub(crate) end: Option<End>,
}

/// Why this worker exits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// The app can't run.
    Failed(Failed),
    /// A drain is complete.
    Drained,
}
