//! One app: its file, its workers, and the requests that wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::{VassalName, WorkerName};
use supervise::{Limits, Recycle, Stage, Supervisor};
use tokio::sync::mpsc::{self, error::TrySendError};
use vassal::Vassal;

use super::admin::{AdminError, Follower};
use super::broken::Broken;
use super::edits::{Edits, News};
use super::event::{AttachmentId, Command, Failure, Load};
use super::files::Admission;
use super::lookup::LookupId;
use super::memory::PrivateMemory;
use super::order::Order;
use super::prepare::Preparation;
use super::template::Template;
use crate::process::{Ending, Process};
use crate::routes::{Route, RouteState};
use crate::state::{Serving, StageRecord, WorkerRecord};
use crate::vassals::{Missing, Version};

/// The limits of adopted workers until the app's file has been read.
const LIMITS: Limits =
    Limits { start: Duration::from_secs(60), grace: Duration::from_secs(30), recycle: NO_RECYCLING };

const NO_RECYCLING: Recycle = Recycle { requests: None, lifetime: None, memory: None, jitter: 0 };

/// How many pids of exited processes are kept until a worker can be told of them.
const MAX_ENDED: usize = 1000;
/// How much room is left for commands in the queue to a worker, besides notices of exited processes.
const ROOM_FOR_ORDERS: usize = 4;

pub(super) struct App {
    pub(super) name: VassalName,
    pub(super) file: PathBuf,
    /// The last valid version of its file. None if there was none, or if the file was deleted.
    pub(super) vassal: Option<Arc<Vassal>>,
    /// A valid version that can't serve because another app has its domain and path.
    pub(super) rejected: Option<Version>,
    /// Why its file is missing although nobody deleted it. The app keeps serving.
    pub(super) missing: Option<Missing>,
    /// Identifies the text of its file that was read last.
    pub(super) file_digest: Option<String>,
    /// The errors in the current version of its file.
    pub(super) file_error: Option<String>,
    /// The last error of a worker.
    pub(super) worker_error: Option<String>,
    /// Why the current generation couldn't start, if an earlier one serves instead.
    pub(super) abandoned_error: Option<String>,
    /// Why its newest version can't start, for its developer.
    pub(super) broken: Option<Broken>,
    /// What to report once all of its workers serve.
    pub(super) awaited_news: Option<News>,
    pub(super) supervisor: Supervisor,
    /// The generation that the workers of an earlier emperord run, or a newer one.
    pub(super) restored_generation: u64,
    pub(super) slots: BTreeMap<u16, Slot>,
    /// The configuration of the current generation, the last one that worked, and all that still have
    /// workers.
    pub(super) specs: BTreeMap<u64, Arc<Vassal>>,
    pub(super) followers: Vec<Follower>,
    pub(super) recycled: Recycled,
    /// When the wait for each worker that isn't ready started.
    pub(super) awaited: BTreeMap<u16, Instant>,
    /// Workers that were ordered from the service manager, and whose processes haven't reported yet.
    pub(super) ordered: BTreeMap<u16, Order>,
    /// The template that its workers are forked from, if its file asks for that.
    pub(super) template: Option<Template>,
    /// When the last process was started.
    pub(super) last_start: SystemTime,
    /// The generation whose text was saved as working.
    pub(super) proven_saved: Option<u64>,
    /// A watch of the app's own files, while it is only waiting for an edit or reloads on changes.
    pub(super) edits: Option<Edits>,
    /// A version of its file for which it isn't known yet whether it can be followed.
    pub(super) admission: Option<Admission>,
    /// Pending preparations of starts, by generation.
    pub(super) preparations: BTreeMap<u64, Preparation>,
    /// Lookups that take long.
    pub(super) waits: BTreeMap<LookupId, String>,
    /// Its processes that aren't workers any more: earlier templates, and forks that were no longer wanted.
    pub(super) leaving: BTreeSet<u32>,
    /// Its exited processes that no worker has been told of yet.
    pub(super) ended: VecDeque<u32>,
}

/// The workers that were recycled since this emperord started.
#[derive(Debug, Clone, Default)]
pub struct Recycled {
    /// Their number.
    pub count: u64,
    /// The last one, and why it was recycled. Empty if there was none.
    pub last: String,
}

/// A process of an app, which occupies a worker number.
pub(super) struct Slot {
    pub(super) process: Process,
    pub(super) fingerprint: String,
    pub(super) serving: Option<Serving>,
    pub(super) attachment: Option<Attachment>,
    /// Whether its interpreter has loaded the worker.
    pub(super) has_attached: bool,
    pub(super) load: Load,
    pub(super) private: PrivateMemory,
    pub(super) failure: Option<Failure>,
    /// What it reports to be waiting for before it is ready.
    pub(super) unwell: Option<String>,
    /// Why it was told to drain.
    pub(super) leaving: Option<String>,
    /// How it exited, while its last messages may still be in transit.
    pub(super) ending: Option<Ending>,
}

/// An open control stream.
pub(super) struct Attachment {
    pub(super) id: AttachmentId,
    pub(super) commands: mpsc::Sender<Command>,
}

impl App {
    pub(super) fn new(name: VassalName, file: PathBuf) -> Self {
        Self {
            name,
            file,
            vassal: None,
            rejected: None,
            missing: None,
            file_digest: None,
            file_error: None,
            worker_error: None,
            abandoned_error: None,
            broken: None,
            awaited_news: None,
            supervisor: Supervisor::new(LIMITS),
            restored_generation: 0,
            slots: BTreeMap::new(),
            specs: BTreeMap::new(),
            followers: Vec::new(),
            recycled: Recycled::default(),
            awaited: BTreeMap::new(),
            ordered: BTreeMap::new(),
            template: None,
            last_start: SystemTime::UNIX_EPOCH,
            proven_saved: None,
            edits: None,
            admission: None,
            preparations: BTreeMap::new(),
            waits: BTreeMap::new(),
            leaving: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    pub(super) fn worker(&self, number: u16) -> WorkerName {
        WorkerName { vassal: self.name.clone(), number }
    }

    /// The last error, as it was logged. Errors in the file take precedence over those of workers.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.file_error.as_deref().or(self.worker_error.as_deref())
    }

    /// Its entry in the routing table. None if it can't be routed.
    pub(super) fn route(&self) -> Option<Route> {
        let vassal = self.vassal.clone()?;
        let serving = |number| Some((self.worker(number), self.slots.get(&number)?.serving.clone()?));
        let workers: Vec<_> = self.supervisor.ready().filter_map(serving).collect();
        let failure = self.shown_failure().cloned();
        let state = match workers.is_empty() {
            false => RouteState::Serving,
            // New requests get the error at once, so those that wait for a worker end, too.
            true if self.supervisor.is_failed() || failure.is_some() => RouteState::Failed,
            true => RouteState::Starting,
        };
        Some(Route { vassal, state, workers, failure })
    }

    /// The records of its workers for the state file.
    pub(super) fn records(&self) -> impl Iterator<Item = WorkerRecord> {
        self.slots.iter().filter_map(|(number, slot)| {
            let worker = self.supervisor.worker(*number)?;
            Some(WorkerRecord {
                name: self.worker(*number).to_string(),
                identity: slot.process.identity(),
                generation: worker.generation,
                fingerprint: slot.fingerprint.clone(),
                stage: stage_record(worker.stage),
                serving: slot.serving.clone(),
            })
        })
    }

    /// Follow-up work after every event.
    pub(super) fn settle(&mut self) {
        if self.supervisor.is_at_rest() {
            self.worker_error = None;
            self.abandoned_error = None;
        }
        let current = self.supervisor.generation();
        let in_use: Vec<u64> = self.supervisor.workers().map(|(_, worker)| worker.generation).collect();
        let fallback = self.supervisor.fallback();
        self.specs.retain(|generation, _| {
            *generation == current || Some(*generation) == fallback || in_use.contains(generation)
        });
        self.tell_of_ended();
        self.answer_followers();
    }

    /// Records an exited process, of which a worker will be told.
    pub(super) fn has_ended(&mut self, pid: u32) {
        self.ended.push_back(pid);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// Tells a serving worker about exited processes, or keeps them until there is one.
    fn tell_of_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        // The newest one, which will stay longest.
        let generation = |number: &u16| self.supervisor.worker(*number).map(|it| it.generation);
        let attached =
            self.supervisor.ready().filter(|it| self.slots.get(it).is_some_and(|it| it.attachment.is_some()));
        let newest = attached.max_by_key(generation).and_then(|number| self.slots.get(&number));
        let Some(attachment) = newest.and_then(|slot| slot.attachment.as_ref()) else { return };
        send_ended(&mut self.ended, &attachment.commands);
    }

    /// A description of the interpreter that a worker runs on.
    pub(super) fn python_of(&self, number: u16) -> Option<String> {
        self.python_of_generation(self.supervisor.worker(number)?.generation)
    }

    /// A description of the interpreter that new workers run on.
    pub(super) fn current_python(&self) -> Option<String> {
        self.python_of_generation(self.supervisor.generation())
    }

    fn python_of_generation(&self, generation: u64) -> Option<String> {
        Some(match self.specs.get(&generation)?.python.path() {
            path if path.as_os_str().is_empty() => "`python3` of PATH".to_owned(),
            path => path.display().to_string(),
        })
    }

    /// Whether its file is gone and all of its workers have exited.
    pub(super) fn is_over(&self) -> bool {
        let file_is_gone = self.vassal.is_none() && self.rejected.is_none() && self.file_error.is_none();
        file_is_gone && self.admission.is_none() && self.has_no_process()
    }

    /// Whether it has no processes.
    pub(super) fn has_no_process(&self) -> bool {
        self.slots.is_empty() && self.ordered.is_empty() && self.template.is_none() && self.leaving.is_empty()
    }

    fn answer_followers(&mut self) {
        for follower in std::mem::take(&mut self.followers) {
            if let Some(unanswered) = follower.follow(self) {
                self.followers.push(unanswered);
            }
        }
    }

    /// Refuses all waiting requests.
    pub(super) fn refuse_followers(&mut self, error: &AdminError) {
        for follower in self.followers.drain(..) {
            follower.refuse(error.clone());
        }
    }
}

impl Slot {
    pub(super) fn new(process: Process, fingerprint: String, serving: Option<Serving>) -> Self {
        Self {
            process,
            fingerprint,
            serving,
            attachment: None,
            has_attached: false,
            load: Load::default(),
            private: PrivateMemory::default(),
            failure: None,
            unwell: None,
            leaving: None,
            ending: None,
        }
    }

    /// Sends a command if the worker is attached. Otherwise it gets its orders when it attaches again.
    pub(super) fn command(&self, worker: &WorkerName, command: Command) {
        let Some(attachment) = &self.attachment else { return };
        if let Err(TrySendError::Full(command)) = attachment.commands.try_send(command) {
            let order = command.name();
            // If it was told to exit, signals will follow.
            tracing::warn!(%worker, order, "cannot notify worker: it doesn't read its messages");
        }
    }

    /// The memory that counts for `recycle.memory`, in bytes.
    pub(super) fn counted_memory(&mut self, limit: Option<u64>, now: Instant) -> u64 {
        let identity = self.process.identity();
        self.private.counted(self.load, limit, now, || identity.private_memory())
    }

    pub(super) fn is_attached_by(&self, id: AttachmentId) -> bool {
        self.attachment.as_ref().is_some_and(|it| it.id == id)
    }
}

/// Sends notices of exited processes, while the queue has room for commands. The rest is sent once the worker
/// has read some.
fn send_ended(ended: &mut VecDeque<u32>, commands: &mpsc::Sender<Command>) {
    while let Some(pid) = ended.front() {
        if commands.capacity() <= ROOM_FOR_ORDERS || commands.try_send(Command::Ended(*pid)).is_err() {
            return;
        }
        ended.pop_front();
    }
}

fn stage_record(stage: Stage) -> StageRecord {
    match stage {
        Stage::Starting { .. } => StageRecord::Starting,
        Stage::Ready { .. } => StageRecord::Ready,
        Stage::Draining { .. } => StageRecord::Draining,
        Stage::Stopping { .. } => StageRecord::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_exited_processes_leave_room_for_commands() {
        let (commands, mut orders) = mpsc::channel(8);
        let mut ended: VecDeque<u32> = (1..=10).collect();
        send_ended(&mut ended, &commands);
        for _ in 0..ROOM_FOR_ORDERS {
            commands.try_send(Command::Drain(Duration::ZERO)).unwrap();
        }
        let mut pids = Vec::new();
        while let Ok(command) = orders.try_recv() {
            pids.extend(if let Command::Ended(pid) = command { Some(pid) } else { None });
        }
        assert_eq!(pids, [1, 2, 3, 4]);
        assert_eq!(ended, [5, 6, 7, 8, 9, 10], "they are sent later");
    }
}
