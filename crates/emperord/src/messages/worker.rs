//! What a worker reports, and what it is told.

use api::WorkerName;
use supervise::DrainOrder;
use tokio::sync::mpsc;

use crate::pidfd::Caller;
use crate::spec::WorkerSpec;
use crate::state::Interface;

/// Identifies a control stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(pub u64);

/// The first message of a worker on its control stream.
#[derive(Debug)]
pub struct Attaching {
    /// Its name.
    pub worker: WorkerName,
    /// The calling process.
    pub caller: Caller,
    /// Set if it already serves.
    pub served: Option<Served>,
    /// Whether it accepts requests.
    pub taking: Taking,
    /// The stream.
    pub attachment: AttachmentId,
    /// Sends commands to the worker.
    pub commands: mpsc::Sender<Command>,
}

/// What a serving worker reports. It doesn't report its address, since emperord has assigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Distinguishes two processes with the same name.
    pub instance: u64,
    /// The number of requests that it handles at once.
    pub capacity: u32,
    /// Such as `CPython 3.11.7`.
    pub python: String,
    /// How it calls the app.
    pub interface: Interface,
    /// Such as `uvloop`. Empty if there is no event loop.
    pub event_loop: String,
}

/// Whether a worker accepts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// It does, or will once it is ready.
    Requests,
    /// It is draining.
    NothingMore,
}

/// A command to a worker.
#[derive(Debug)]
pub enum Command {
    /// Run this.
    Run(WorkerSpec),
    /// Accept nothing more, finish within these times, and exit.
    Drain(DrainOrder),
    /// Exit now, for this reason.
    Stop(String),
    /// The process of another worker has exited.
    Ended(u32),
}

impl Command {
    /// Its name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Drain(_) => "drain",
            Self::Stop(_) => "stop",
            Self::Ended(_) => "ended",
        }
    }
}

/// How busy a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Running requests.
    pub busy: u32,
    /// Requests completed since it started.
    pub requests: u64,
    /// Resident memory in bytes; 0 if not reported.
    pub memory: u64,
    /// Private memory in bytes, as measured by the worker; 0 if it didn't measure it.
    pub private: u64,
    /// Open WebSockets.
    pub sockets: u32,
    /// WebSocket messages in both directions since it started.
    pub messages: u64,
    /// The longest time within the last second that the event loop didn't respond, in milliseconds.
    pub lag_milliseconds: u32,
    /// asyncio's tasks.
    pub tasks: u32,
}

/// Why a process isn't told what to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No worker of that name is wanted.
    #[error("worker {0} is unexpected: only emperord starts workers")]
    NotWanted(WorkerName),
    /// Another process has the name.
    #[error("worker {worker} is process {holder}, not {asked}")]
    Taken {
        /// The name.
        worker: WorkerName,
        /// The pid of the process that has it.
        holder: u32,
        /// The pid of the process that asked.
        asked: u32,
    },
    /// The process is that worker, but another user made the connection.
    #[error("worker {worker} does not run as user {uid}, who asks")]
    User {
        /// The name.
        worker: WorkerName,
        /// The user that asked.
        uid: u32,
    },
    /// The path of its socket would be too long.
    #[error(transparent)]
    Socket(#[from] config::SocketPathError),
}
