//! The events and actions of a supervisor.

use std::time::Duration;

use crate::recycle::{Recycle, RecycleCause, Usage};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The configuration has changed. A higher generation replaces all workers. The same generation changes
    /// only the number of workers and the limits.
    Wanted {
        /// The generation to run.
        generation: u64,
        /// The number of workers.
        workers: u16,
        /// The limits.
        limits: Limits,
    },
    /// The app must have no workers: its file was removed, or emperord is shutting down.
    Removed,
    /// A process was found that this supervisor didn't start: either that of an earlier emperord, before the
    /// first [`Event::Wanted`], or one that the operator has started.
    Adopted {
        /// The worker's number.
        number: u16,
        /// The generation that it runs. 0 if unknown: such a worker is replaced by any version.
        generation: u64,
        /// Its stage.
        stage: Adoption,
        /// The time since its process was started.
        age: Duration,
    },
    /// Workers of this generation were ready before, according to an earlier supervisor.
    Proven {
        /// The generation.
        generation: u64,
    },
    /// A worker has opened its control stream.
    Attached {
        /// The worker's number.
        number: u16,
    },
    /// A worker has imported the app and is listening.
    Ready {
        /// The worker's number.
        number: u16,
    },
    /// A worker started to drain on its own.
    Draining {
        /// The worker's number.
        number: u16,
    },
    /// A worker's control stream has ended, but its process is running.
    Detached {
        /// The worker's number.
        number: u16,
    },
    /// A worker has a request that only ends with the process.
    Stuck {
        /// The worker's number.
        number: u16,
    },
    /// All threads of a worker are held by responses that nobody reads any more. It can't serve, but may stay
    /// until another worker is ready.
    Held {
        /// The worker's number.
        number: u16,
    },
    /// The number of a worker's WebSockets has changed.
    Sockets {
        /// The worker's number.
        number: u16,
        /// How many are open.
        open: u32,
    },
    /// The usage of a worker.
    Used {
        /// The worker's number.
        number: u16,
        /// Its usage.
        usage: Usage,
    },
    /// The process that [`Action::Spawn`] asked for couldn't be created.
    SpawnFailed {
        /// The worker's number.
        number: u16,
    },
    /// Like [`Event::SpawnFailed`], for a reason that won't go away soon, such as a missing user.
    SpawnRefused {
        /// The worker's number.
        number: u16,
    },
    /// A worker's process has exited.
    Exited {
        /// The worker's number.
        number: u16,
        /// How it exited.
        exit: Exit,
    },
    /// A timer has expired.
    Tick,
    /// One of the processes that [`crate::Supervisor::demand`] asks for may be started now.
    MayStart,
    /// The app's source files have changed since a start failed: the next start may succeed.
    SourcesChanged,
}

/// The stage of an adopted worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It was importing its app when its state was last saved.
    Starting,
    /// It serves.
    Ready,
    /// It was told to drain.
    Draining,
}

/// How a process exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With status 0.
    Orderly,
    /// It reported that its app can't be imported. Whatever is missing may appear later.
    Unusable,
    /// It reported that its app can't run before a file is edited or the interpreter is repaired.
    NeedsEdit,
    /// By a signal, or with any other status.
    Crashed,
}

/// The limits of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of a process until it is ready.
    pub start: Duration,
    /// From the order to drain until remaining requests are cut off.
    pub grace: Duration,
    /// From the order to drain until open WebSockets are closed, if the worker is replaced.
    pub websocket_drain: Duration,
    /// When it is recycled.
    pub recycle: Recycle,
}

/// Actions to perform, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The set of workers that accept requests, or the app's phase, has changed.
    Publish,
    /// Start a process.
    Spawn {
        /// The worker's number.
        number: u16,
        /// The generation to run.
        generation: u64,
    },
    /// Tell a worker to accept nothing more, finish, and exit, as [`crate::Supervisor::drain_order`] says. One that
    /// drains already may be told again, with less time.
    Drain {
        /// The worker's number.
        number: u16,
        /// The reason.
        cause: DrainCause,
    },
    /// Send SIGTERM.
    Terminate {
        /// The worker's number.
        number: u16,
        /// The reason.
        cause: TerminateCause,
    },
    /// Send SIGKILL.
    Kill {
        /// The worker's number.
        number: u16,
        /// The reason.
        cause: KillCause,
    },
    /// No worker serves, and only an edit can help. Nothing is tried until [`Event::SourcesChanged`] or the
    /// next generation.
    GiveUp {
        /// The failure of the last attempt.
        failure: StartFailure,
    },
    /// The first worker of a new generation failed to start: the last generation that worked keeps serving,
    /// and the new one is retried next to it.
    AbandonReload {
        /// The failure of that worker.
        failure: StartFailure,
    },
}

/// Why a worker is told to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCause {
    /// Another worker runs a newer generation.
    Superseded,
    /// Another worker has replaced it because of its usage or held threads.
    Recycled(RecycleCause),
    /// Fewer workers are wanted.
    Superfluous,
    /// No workers are wanted.
    Removed,
    /// It drains for its open WebSockets, and too many other workers do.
    TooManyKept,
    /// It has a request that doesn't end. Another worker will replace it.
    Stuck,
}

/// Why a worker is sent SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminateCause {
    /// It wasn't serving yet, and isn't wanted any more.
    Superfluous,
    /// It was still running at the end of its grace period.
    GraceOver,
    /// It hasn't attached, or not again. It may be frozen.
    Silent,
}

/// Why a worker is sent SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillCause {
    /// It wasn't ready in time.
    StartTimeout,
    /// It ignored SIGTERM.
    Stubborn,
}

/// Why a worker didn't become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The process couldn't be created.
    NotSpawned,
    /// The process can't be created as configured.
    Refused,
    /// It wasn't ready in time.
    TimedOut,
    /// The app couldn't be imported.
    Unusable,
    /// The app can't run before a file is edited or the interpreter is repaired.
    NeedsEdit,
    /// The process exited before it was ready.
    Exited,
}

impl StartFailure {
    /// Whether the reason may go away within moments.
    pub(crate) fn may_pass_soon(self) -> bool {
        matches!(self, Self::NotSpawned | Self::Exited)
    }
}
