//! Everything that can happen to emperord.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{VassalName, WorkerName};
use config::emperord::Mode;
use tokio::sync::{mpsc, oneshot};
use vassal::Vassal;

use super::edits::WatchId;
use super::lookup::LookupId;
use super::order::OrderId;
use super::{AdminError, SpecError, Status};
use crate::launcher::{JobError, LaunchError, Prepared};
use crate::process::{Caller, Ending, Identity};
use crate::routes::Watch;
use crate::sources::Noticed;
use crate::template::TemplateEvent;
use crate::vassals::FileEvent;

/// Something that happened, or a request.
#[derive(Debug)]
pub enum Event {
    /// A vassal file has changed or was removed.
    File(FileEvent),
    /// A worker asks what to run.
    GetSpec {
        /// Its name.
        worker: WorkerName,
        /// The calling process.
        caller: Caller,
        /// Receives what it runs.
        reply: oneshot::Sender<Result<WorkerSpec, SpecError>>,
    },
    /// A start that was ordered from the service manager has succeeded or failed.
    Ordered {
        /// Its name.
        worker: WorkerName,
        /// The order.
        order: OrderId,
        /// The outcome.
        result: Result<(), JobError>,
    },
    /// A worker has opened its control stream.
    Attach(Box<Attaching>),
    /// A worker is listening.
    Ready {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
        /// What it reports.
        served: Served,
    },
    /// A worker can't run its app, and exits.
    Failed {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
        /// The reason.
        failure: Failure,
    },
    /// A worker has imported its app, but isn't ready for requests.
    Unwell {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
        /// The reason.
        message: String,
    },
    /// A worker has a request that only ends with the process.
    Stuck {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
    },
    /// All threads of a worker are held by responses that nobody reads any more.
    Held {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
    },
    /// A worker reports its load.
    Load {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
        /// Its load.
        load: Load,
    },
    /// A worker has started to drain.
    Draining {
        /// Its name.
        worker: WorkerName,
        /// The stream that the message came from.
        attachment: AttachmentId,
    },
    /// A control stream has ended.
    Detached {
        /// The worker's name.
        worker: WorkerName,
        /// The stream.
        attachment: AttachmentId,
    },
    /// A worker's process has exited.
    Ended {
        /// The worker's name.
        worker: WorkerName,
        /// The process.
        identity: Identity,
        /// How it exited.
        ending: Ending,
    },
    /// A message from the template of an app.
    Template {
        /// The app.
        app: VassalName,
        /// The pid of the template.
        pid: u32,
        /// The message.
        report: TemplateEvent,
    },
    /// A child of emperord has exited, not necessarily one that it started.
    ChildEnded,
    /// A process exited a moment ago, and its last messages should have arrived.
    Lingered {
        /// The worker's name.
        worker: WorkerName,
        /// The process.
        identity: Identity,
    },
    /// frontd asks for the routing table.
    Watch {
        /// The table and its updates.
        reply: oneshot::Sender<Watch>,
    },
    /// The operator asks for the status.
    Status {
        /// Receives the status.
        reply: oneshot::Sender<Status>,
    },
    /// The operator asks for another number of workers.
    Scale {
        /// The app.
        app: VassalName,
        /// The number.
        workers: u32,
        /// Answered once they serve.
        reply: Reply,
    },
    /// The operator asks to replace all workers.
    Reload {
        /// The app.
        app: VassalName,
        /// Answered once the new ones have taken over.
        reply: Reply,
    },
    /// The operator asks to stop apps whose files are missing.
    Forget {
        /// The apps. Empty for all apps whose files are missing.
        apps: Vec<VassalName>,
        /// The apps that are being stopped.
        reply: oneshot::Sender<Result<Vec<VassalName>, AdminError>>,
    },
    /// The operator asks to drain all workers and to exit.
    Shutdown {
        /// Answered once all workers have exited.
        reply: oneshot::Sender<()>,
    },
    /// The source files of an app have changed, or can't be watched completely.
    Sources {
        /// The app.
        app: VassalName,
        /// The watch that noticed it.
        watch: WatchId,
        /// What it noticed.
        noticed: Noticed,
    },
    /// A lookup takes long.
    Slow {
        /// The app.
        app: VassalName,
        /// The lookup.
        lookup: LookupId,
        /// A description of it.
        what: String,
    },
    /// A lookup has completed. Its result follows in the next event.
    Answered {
        /// The app.
        app: VassalName,
        /// The lookup.
        lookup: LookupId,
    },
    /// Whether workers of an app can be started as its file says, and the owner of its directory.
    Admitted {
        /// The app.
        app: VassalName,
        /// The lookup that this answers.
        lookup: LookupId,
        /// The owner, if the app runs as that user; or why the file is refused.
        result: Result<Option<u32>, String>,
    },
    /// The result of a preparation to start workers.
    Prepared {
        /// The app.
        app: VassalName,
        /// The lookup that this answers.
        lookup: LookupId,
        /// The generation to start.
        generation: u64,
        /// The data for the start, or why nothing can be started.
        result: Result<Prepared, LaunchError>,
    },
    /// The number of workers was written into an app's file.
    Written {
        /// The app.
        app: VassalName,
        /// The lookup that this answers.
        lookup: LookupId,
        /// The number.
        workers: u32,
        /// Why it wasn't written, if it failed.
        result: Result<(), String>,
    },
    /// A timer has expired.
    Tick,
    /// emperord has to exit, and to leave the workers running.
    Stop,
}

/// Receives the outcome of an operator's request.
pub type Reply = oneshot::Sender<Result<(), AdminError>>;

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
    /// Accept nothing more, finish within this time, and exit.
    Drain(Duration),
    /// Exit now, for this reason.
    Stop(String),
    /// The process of another worker has exited.
    Ended(u32),
}

impl Command {
    /// Its name in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Drain(_) => "drain",
            Self::Stop(_) => "stop",
            Self::Ended(_) => "ended",
        }
    }
}

/// Everything that a worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Its number.
    pub number: u16,
    /// Its generation.
    pub generation: u64,
    /// The app.
    pub vassal: Arc<Vassal>,
    /// The path to listen at.
    pub socket: PathBuf,
    /// Whether its app is being developed.
    pub mode: Mode,
}

/// Why a worker can't run its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// Python's traceback, or empty.
    pub traceback: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no interpreter, or it is unusable.
    Interpreter,
    /// The app can't be imported.
    Import,
    /// A source file of the app can't be compiled.
    Source,
    /// An error of the operating system.
    System,
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
}

impl Failure {
    /// The message for the operator. `who` failed.
    pub(super) fn describe(&self, who: &str) -> String {
        let Self { message, traceback, .. } = self;
        match traceback.trim_end() {
            more if more.is_empty() || more == message => format!("{who} cannot run its app: {message}"),
            more => format!("{who} cannot run its app: {message}\n{more}"),
        }
    }
}
