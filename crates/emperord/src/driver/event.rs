//! All that can happen to emperord.

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
use crate::template::Said;
use crate::vassals::FileEvent;

/// Something that happened, or that is asked for.
#[derive(Debug)]
pub enum Event {
    /// A vassal file is another, or gone.
    File(FileEvent),
    /// A worker asks what to run.
    GetSpec {
        /// Its name.
        worker: WorkerName,
        /// The process that asks.
        caller: Caller,
        /// What it runs.
        reply: oneshot::Sender<Result<WorkerSpec, SpecError>>,
    },
    /// An order to start a worker has ended: it is ready, or why it will not be.
    Ordered {
        /// Its name.
        worker: WorkerName,
        /// Which order.
        order: OrderId,
        /// How it ended.
        result: Result<(), JobError>,
    },
    /// A worker has opened its control stream.
    Attach(Box<Attaching>),
    /// A worker listens.
    Ready {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
        /// What it says of itself.
        served: Served,
    },
    /// A worker cannot run its app, and ends.
    Failed {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
        /// Why.
        failure: Failure,
    },
    /// A worker has imported its app, and is not as it should be to take requests.
    Unwell {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
        /// What is wrong.
        message: String,
    },
    /// A worker has a request that nothing ends but the end of the process.
    Stuck {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
    },
    /// Each thread of a worker is held by a response that nobody reads any more.
    Held {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
    },
    /// What a worker is doing.
    Load {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
        /// How busy it is.
        load: Load,
    },
    /// A worker takes nothing more: what it is at, or all of it, has ended.
    Draining {
        /// Its name.
        worker: WorkerName,
        /// On which stream it was said.
        attachment: AttachmentId,
    },
    /// A control stream has ended.
    Detached {
        /// The worker's name.
        worker: WorkerName,
        /// Which stream.
        attachment: AttachmentId,
    },
    /// A worker's process has ended.
    Ended {
        /// The worker's name.
        worker: WorkerName,
        /// Which process.
        identity: Identity,
        /// How.
        ending: Ending,
    },
    /// The template of an app says something.
    Template {
        /// Of which app.
        app: VassalName,
        /// Its process.
        pid: u32,
        /// What.
        said: Said,
    },
    /// A child of emperord has ended, which need not be one that it started.
    ChildEnded,
    /// A process ended a moment ago, and what it said last should have come.
    Lingered {
        /// The worker's name.
        worker: WorkerName,
        /// Which process.
        identity: Identity,
    },
    /// frontd wants the routing table.
    Watch {
        /// The table, and what becomes of it.
        reply: oneshot::Sender<Watch>,
    },
    /// The operator asks how things are.
    Status {
        /// How they are.
        reply: oneshot::Sender<Status>,
    },
    /// The operator wants another number of workers.
    Scale {
        /// Of this app.
        app: VassalName,
        /// So many.
        workers: u32,
        /// Answered once they serve.
        reply: Reply,
    },
    /// The operator wants new workers in place of all.
    Reload {
        /// Of this app.
        app: VassalName,
        /// Answered once they have taken over.
        reply: Reply,
    },
    /// Apps whose files are missing are to end.
    Forget {
        /// Which; all of those where none is named.
        apps: Vec<VassalName>,
        /// Which were ended.
        reply: oneshot::Sender<Result<Vec<VassalName>, AdminError>>,
    },
    /// Every worker is to be drained, and emperord to end.
    Shutdown {
        /// Answered once all have gone.
        reply: oneshot::Sender<()>,
    },
    /// The own files of an app have changed, or cannot be watched as they should.
    Sources {
        /// Which app.
        app: VassalName,
        /// Who watches them.
        watch: WatchId,
        /// What there is to tell.
        noticed: Noticed,
    },
    /// An answer takes long.
    Slow {
        /// For which app it was asked.
        app: VassalName,
        /// Which.
        lookup: LookupId,
        /// What is waited for.
        what: String,
    },
    /// There is an answer, which comes next.
    Answered {
        /// For which app.
        app: VassalName,
        /// Which.
        lookup: LookupId,
    },
    /// Whether the workers of an app can be started as its file says, and who owns its directory.
    Admitted {
        /// Which app.
        app: VassalName,
        /// Which question that answers.
        lookup: LookupId,
        /// The owner where it runs the app, or why the file is refused.
        result: Result<Option<u32>, String>,
    },
    /// What is needed to start workers of an app.
    Prepared {
        /// Which app.
        app: VassalName,
        /// Which question that answers.
        lookup: LookupId,
        /// Of which generation.
        generation: u64,
        /// What it needs, or why nothing can be started.
        result: Result<Prepared, LaunchError>,
    },
    /// The number of workers was written into the file of an app.
    Written {
        /// Which app.
        app: VassalName,
        /// Who waits for that.
        lookup: LookupId,
        /// The number.
        workers: u32,
        /// Or why it was not.
        result: Result<(), String>,
    },
    /// Time has passed.
    Tick,
    /// emperord is to end, and to leave the workers as they are.
    Stop,
}

/// How an operator's wish came out.
pub type Reply = oneshot::Sender<Result<(), AdminError>>;

/// Tells two control streams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(pub u64);

/// What a worker says of itself when it opens its control stream.
#[derive(Debug)]
pub struct Attaching {
    /// Its name.
    pub worker: WorkerName,
    /// The process, as the kernel names it.
    pub caller: Caller,
    /// What it says of itself, if it serves already.
    pub served: Option<Served>,
    /// What it takes.
    pub taking: Taking,
    /// This stream.
    pub attachment: AttachmentId,
    /// Where commands to it go.
    pub commands: mpsc::Sender<Command>,
}

/// What a worker that serves says of itself. Where it is reached is known without it: it listens where it was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Tells two processes of one name apart.
    pub instance: u64,
    /// How many requests it works on at once.
    pub capacity: u32,
    /// Such as `CPython 3.11.7`.
    pub python: String,
}

/// Whether a worker takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// It does, or will once it is ready.
    Requests,
    /// It was told to drain, and is at it.
    NothingMore,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// What to run.
    Run(WorkerSpec),
    /// Take nothing more, finish within this time, and exit.
    Drain(Duration),
    /// Exit now, for this reason.
    Stop(String),
    /// The process of another worker has ended.
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

/// All that a worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Its number.
    pub number: u16,
    /// What it runs.
    pub generation: u64,
    /// The app.
    pub vassal: Arc<Vassal>,
    /// Where it is to listen.
    pub socket: PathBuf,
    /// Whom it is run for.
    pub mode: Mode,
}

/// Why a worker cannot run its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// Python's traceback, or empty.
    pub traceback: String,
}

/// Of which kind a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No interpreter, or one that cannot be used.
    Interpreter,
    /// The app cannot be imported.
    Import,
    /// A file of its own cannot be compiled.
    Source,
    /// Anything of the machine.
    System,
}

/// How busy a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests that are being worked on.
    pub busy: u32,
    /// Requests that have ended since it started.
    pub requests: u64,
    /// Resident memory in bytes; 0 when it was not told.
    pub memory: u64,
    /// Memory that no other process shares, in bytes, as the worker measured it; 0 when it did not.
    pub private: u64,
}

impl Failure {
    /// As the operator is told of it; `who` failed.
    pub(super) fn told(&self, who: &str) -> String {
        let Self { message, traceback, .. } = self;
        match traceback.trim_end() {
            more if more.is_empty() || more == message => format!("{who} cannot run its app: {message}"),
            more => format!("{who} cannot run its app: {message}\n{more}"),
        }
    }
}
