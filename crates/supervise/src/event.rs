//! What a supervisor is told, and what it answers.

use std::time::Duration;

use crate::recycle::{Recycle, RecycleCause, Usage};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The app's file asks for this. A higher generation than before replaces every worker; the same
    /// generation changes only the number and the limits.
    Wanted {
        /// What the new workers run.
        generation: u64,
        /// How many.
        workers: u16,
        /// How long things may take.
        limits: Limits,
    },
    /// The app is to have no workers: its file is gone, or everything is shut down.
    Removed,
    /// A process was found that this supervisor has not asked for: of an earlier emperord, before the first
    /// [`Event::Wanted`], or one that the operator has started.
    Adopted {
        /// The worker's number.
        number: u16,
        /// What it runs; 0 where that is not known, which every version replaces.
        generation: u64,
        /// How far it has come.
        stage: Adoption,
        /// Since its process was started.
        age: Duration,
    },
    /// Workers of this generation were ready before, as an earlier supervisor has written down.
    Proven {
        /// Which.
        generation: u64,
    },
    /// A worker has opened its control stream.
    Attached {
        /// The worker's number.
        number: u16,
    },
    /// A worker has imported the app and listens.
    Ready {
        /// The worker's number.
        number: u16,
    },
    /// A worker drains without having been told by this supervisor.
    Draining {
        /// The worker's number.
        number: u16,
    },
    /// A worker's control stream has ended, and its process lives on.
    Detached {
        /// The worker's number.
        number: u16,
    },
    /// A worker has a request that nothing ends but the end of the process.
    Stuck {
        /// The worker's number.
        number: u16,
    },
    /// Each thread of a worker is held by a response that nobody reads any more: it cannot serve, and what it is at
    /// may wait until another is ready in its place.
    Held {
        /// The worker's number.
        number: u16,
    },
    /// What a worker has done so far.
    Used {
        /// The worker's number.
        number: u16,
        /// What.
        usage: Usage,
    },
    /// The process that [`Action::Spawn`] asked for could not be made.
    SpawnFailed {
        /// The worker's number.
        number: u16,
    },
    /// As [`Event::SpawnFailed`], for a reason that does not pass soon, such as a user that does not exist.
    SpawnRefused {
        /// The worker's number.
        number: u16,
    },
    /// A worker's process has ended.
    Exited {
        /// The worker's number.
        number: u16,
        /// In which way.
        exit: Exit,
    },
    /// Time has passed.
    Tick,
    /// One process may be started now, of those that [`crate::Supervisor::demand`] asks for.
    MayStart,
    /// The app's own files have changed since a start failed: what failed may work now.
    SourcesChanged,
}

/// How far an adopted worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It was importing its app when it was last heard of.
    Starting,
    /// It serves.
    Ready,
    /// It was told to drain.
    Draining,
}

/// In which way a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With status 0.
    Orderly,
    /// It said that its app could not be imported: what it needs may come later.
    Unusable,
    /// It said that its app cannot be run before somebody edits a file or mends the interpreter.
    NeedsEdit,
    /// By a signal, or with any other status.
    Crashed,
}

/// What a worker may take and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of a process until it is ready.
    pub start: Duration,
    /// From the order to drain until what is still under way is cut.
    pub grace: Duration,
    /// When it has done enough.
    pub recycle: Recycle,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The set of workers that take requests, or the app's phase, has changed.
    Publish,
    /// Start a process.
    Spawn {
        /// The worker's number.
        number: u16,
        /// What it is to run.
        generation: u64,
    },
    /// Tell a worker to take nothing more, to finish, and to exit.
    Drain {
        /// The worker's number.
        number: u16,
        /// Why.
        cause: DrainCause,
    },
    /// Send SIGTERM.
    Terminate {
        /// The worker's number.
        number: u16,
        /// Why.
        cause: TerminateCause,
    },
    /// Send SIGKILL.
    Kill {
        /// The worker's number.
        number: u16,
        /// Why.
        cause: KillCause,
    },
    /// No worker serves, and only an edit helps. Nothing is tried until [`Event::SourcesChanged`] or the next
    /// generation.
    GiveUp {
        /// What went wrong with the last one that was tried.
        failure: StartFailure,
    },
    /// The first worker of a new generation failed to start: the one that worked last serves on, and the new one
    /// is tried again beside it.
    AbandonReload {
        /// What went wrong with it.
        failure: StartFailure,
    },
}

/// Why a worker is told to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCause {
    /// Another runs what is newer.
    Superseded,
    /// Another took its place, as it has done enough or can do no more.
    Recycled(RecycleCause),
    /// Fewer are wanted, or none.
    Superfluous,
    /// A request of it does not end: another is to take its place.
    Stuck,
}

/// Why a worker is sent SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminateCause {
    /// It had not begun to serve and is not wanted any more.
    Superfluous,
    /// It was still at it at the end of its grace.
    GraceOver,
    /// It has not attached, or not again: it is frozen, or the like.
    Silent,
}

/// Why a worker is sent SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillCause {
    /// It was not ready in time.
    StartTimeout,
    /// SIGTERM did not end it.
    Stubborn,
}

/// Why a worker did not become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The process could not be made.
    NotSpawned,
    /// The process cannot be made as it is asked for.
    Refused,
    /// It was not ready in time.
    TimedOut,
    /// The app could not be imported.
    Unusable,
    /// The app cannot be run before somebody edits a file or mends the interpreter.
    NeedsEdit,
    /// The process ended before it was ready.
    Exited,
}

impl StartFailure {
    /// Whether the reason may pass within moments.
    pub(crate) fn may_pass_soon(self) -> bool {
        matches!(self, Self::NotSpawned | Self::Exited)
    }
}
