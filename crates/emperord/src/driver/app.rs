//! One app: its file, its workers, and who waits for it.

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
use super::edits::Edits;
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

/// Until its file was read: how long those that were adopted may take.
const LIMITS: Limits =
    Limits { start: Duration::from_secs(60), grace: Duration::from_secs(30), recycle: NO_RECYCLING };

const NO_RECYCLING: Recycle = Recycle { requests: None, lifetime: None, memory: None, jitter: 0 };

/// Of how many ended processes the pids are kept until a worker can be told.
const MAX_ENDED: usize = 1000;
/// How many orders always have room beside the notices of ended processes, for a worker that reads neither yet.
const ROOM_FOR_ORDERS: usize = 4;

/// One app.
pub(super) struct App {
    pub(super) name: VassalName,
    pub(super) file: PathBuf,
    /// The last good version of its file; None when there was none, or the file is gone.
    pub(super) vassal: Option<Arc<Vassal>>,
    /// A good version that cannot serve because another app has its place.
    pub(super) rejected: Option<Version>,
    /// Why its file is not there, though nobody deleted it; it serves on.
    pub(super) missing: Option<Missing>,
    /// What is wrong with the file as it is now.
    pub(super) file_error: Option<String>,
    /// What went wrong last with a worker.
    pub(super) worker_error: Option<String>,
    /// Why the current generation could not start, where one that worked serves in its place.
    pub(super) abandoned_error: Option<String>,
    /// Why its newest version cannot start, for its developer.
    pub(super) broken: Option<Broken>,
    pub(super) supervisor: Supervisor,
    /// What the workers of an earlier emperord run, or what is newer than that.
    pub(super) restored_generation: u64,
    pub(super) slots: BTreeMap<u16, Slot>,
    /// What each generation runs that still has workers, the one that worked last, and the current one.
    pub(super) specs: BTreeMap<u64, Arc<Vassal>>,
    pub(super) followers: Vec<Follower>,
    pub(super) recycled: Recycled,
    /// Since when each worker that is not ready is awaited.
    pub(super) awaited: BTreeMap<u16, Instant>,
    /// The workers whose processes the service manager was asked for, and which have not come.
    pub(super) ordered: BTreeMap<u16, Order>,
    /// What its workers are forked from, where its file asks for that.
    pub(super) template: Option<Template>,
    /// When a process of it was started last.
    pub(super) last_start: SystemTime,
    /// The generation whose text was written down as one that works.
    pub(super) proven_saved: Option<u64>,
    /// Watches its own files while only an edit helps.
    pub(super) edits: Option<Edits>,
    /// A version of its file of which it is not known yet whether it can be followed.
    pub(super) admission: Option<Admission>,
    /// What starts wait for, by generation.
    pub(super) preparations: BTreeMap<u64, Preparation>,
    /// What takes long to be answered.
    pub(super) waits: BTreeMap<LookupId, String>,
    /// Those of its processes that are no workers (any more): templates of before, forks that came too late.
    pub(super) leaving: BTreeSet<u32>,
    /// Its processes that have ended, and that no worker was told of yet.
    pub(super) ended: VecDeque<u32>,
}

/// The workers that had done enough, since this emperord was started.
#[derive(Debug, Clone, Default)]
pub struct Recycled {
    /// How many.
    pub count: u64,
    /// Which one was the last, and why; empty when there was none.
    pub last: String,
}

/// One process of an app, in the number that it holds.
pub(super) struct Slot {
    pub(super) process: Process,
    pub(super) fingerprint: String,
    pub(super) serving: Option<Serving>,
    pub(super) attachment: Option<Attachment>,
    pub(super) load: Load,
    pub(super) private: PrivateMemory,
    pub(super) failure: Option<Failure>,
    /// What it is waiting for before it is ready, in its own words.
    pub(super) unwell: Option<String>,
    /// Why it was told to drain.
    pub(super) leaving: Option<String>,
    /// How it ended, when its last words may still be on their way.
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
            file_error: None,
            worker_error: None,
            abandoned_error: None,
            broken: None,
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

    /// What is wrong, as it was logged; a mistake in the file before what workers have said.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.file_error.as_deref().or(self.worker_error.as_deref())
    }

    /// How it stands in the routing table; None while there is nothing to route by.
    pub(super) fn route(&self) -> Option<Route> {
        let vassal = self.vassal.clone()?;
        let serving = |number| Some((self.worker(number), self.slots.get(&number)?.serving.clone()?));
        let workers: Vec<_> = self.supervisor.ready().filter_map(serving).collect();
        let state = match workers.is_empty() {
            false => RouteState::Serving,
            true if self.supervisor.is_failed() => RouteState::Failed,
            true => RouteState::Starting,
        };
        let failure = self.broken.as_ref().map(|it| Arc::clone(&it.text));
        Some(Route { vassal, state, workers, failure })
    }

    /// Its workers, as they are written down.
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

    /// What follows from every event.
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

    /// Notes the end of one of its processes, for a worker to be told of.
    pub(super) fn has_ended(&mut self, pid: u32) {
        self.ended.push_back(pid);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// Tells a worker that serves; without one, the next.
    fn tell_of_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        // The newest, which stays longest.
        let generation = |number: &u16| self.supervisor.worker(*number).map(|it| it.generation);
        let attached =
            self.supervisor.ready().filter(|it| self.slots.get(it).is_some_and(|it| it.attachment.is_some()));
        let newest = attached.max_by_key(generation).and_then(|number| self.slots.get(&number));
        let Some(attachment) = newest.and_then(|slot| slot.attachment.as_ref()) else { return };
        send_ended(&mut self.ended, &attachment.commands);
    }

    /// The interpreter that a worker runs on, for people.
    pub(super) fn python_of(&self, number: u16) -> Option<String> {
        self.python_of_generation(self.supervisor.worker(number)?.generation)
    }

    /// The interpreter that new workers run on, for people.
    pub(super) fn current_python(&self) -> Option<String> {
        self.python_of_generation(self.supervisor.generation())
    }

    fn python_of_generation(&self, generation: u64) -> Option<String> {
        Some(match self.specs.get(&generation)?.python.path() {
            path if path.as_os_str().is_empty() => "`python3` of PATH".to_owned(),
            path => path.display().to_string(),
        })
    }

    /// Whether its file and all of its workers are gone.
    pub(super) fn is_over(&self) -> bool {
        let file_is_gone = self.vassal.is_none() && self.rejected.is_none() && self.file_error.is_none();
        file_is_gone && self.admission.is_none() && self.has_no_process()
    }

    /// Whether nothing of it runs.
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

    /// Tells all who wait that what they wait for will not come.
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
            load: Load::default(),
            private: PrivateMemory::default(),
            failure: None,
            unwell: None,
            leaving: None,
            ending: None,
        }
    }

    /// Sends a command, if the worker listens to any now. One that attaches again is told anew.
    pub(super) fn command(&self, worker: &WorkerName, command: Command) {
        let Some(attachment) = &self.attachment else { return };
        if let Err(TrySendError::Full(command)) = attachment.commands.try_send(command) {
            let order = command.name();
            // Where it was to end, the signals that follow end it.
            tracing::warn!(%worker, order, "cannot notify worker: it does not read what it is sent");
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

/// Tells of ended processes, while there is room for orders besides. The rest is told once the worker has read.
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
    fn ended_processes_leave_room_for_orders() {
        let (commands, mut orders) = mpsc::channel(8);
        let mut ended: VecDeque<u32> = (1..=10).collect();
        send_ended(&mut ended, &commands);
        for _ in 0..ROOM_FOR_ORDERS {
            commands.try_send(Command::Drain(Duration::ZERO)).unwrap();
        }
        let mut told = Vec::new();
        while let Ok(command) = orders.try_recv() {
            told.extend(if let Command::Ended(pid) = command { Some(pid) } else { None });
        }
        assert_eq!(told, [1, 2, 3, 4]);
        assert_eq!(ended, [5, 6, 7, 8, 9, 10], "they are told later");
    }
}
