//! Everything that can happen to emperord.

use api::{VassalName, WorkerName};
use tokio::sync::{mpsc, oneshot};

use super::{AdminError, Attaching, AttachmentId, Load, Served, SpecError, Status};
use crate::launch::{JobError, LaunchError, Prepared, TemplateEvent};
use crate::pidfd::{Caller, Ending, Identity};
use crate::routes::Watch;
use crate::sources::Noticed;
use crate::spec::{Failure, WorkerSpec};
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

/// Sends events to the driver.
pub type Events = mpsc::Sender<Event>;

/// Identifies a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LookupId(pub(crate) u64);

/// Identifies an order to the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderId(pub(crate) u64);

/// Identifies a watch of an app's source files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchId(pub(crate) u64);

/// Receives the outcome of an operator's request.
pub type Reply = oneshot::Sender<Result<(), AdminError>>;
