//! One app: its file, its workers, and the requests that wait for it.

mod broken;
mod memory;
mod news;
mod pending_request;
mod pending_version;
mod preparation;
mod source_watch;
mod tenure;
mod worker_process;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::{VassalName, WorkerName};
use supervise::{Limits, Recycle, Stage, Supervisor};
use tokio::sync::mpsc;
use vassal::Vassal;

use crate::launch::Template;
use crate::messages::{AdminError, Command, LookupId, Recycled};
use crate::routes::{Route, RouteState};
use crate::state::{StageRecord, WorkerRecord};
use crate::vassals::{Missing, Version};

pub(super) use broken::{Broken, Scope};
pub(super) use news::News;
pub(super) use pending_request::{Goal, PendingRequest};
pub(super) use pending_version::{NewWorkers, PendingVersion};
pub(super) use preparation::Preparation;
pub(super) use source_watch::{Purpose, SourceWatch};
pub(super) use tenure::{Forking, Order, Tenure};
pub(super) use worker_process::{Attachment, WorkerProcess};

/// The limits of adopted workers until the app's file has been read.
const LIMITS: Limits = Limits {
    start: Duration::from_secs(60),
    grace: Duration::from_secs(30),
    websocket_drain: Duration::from_secs(3600),
    recycle: NO_RECYCLING,
};

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
    /// What has each worker number. A number that is in use belongs to one worker of the supervisor.
    pub(super) tenures: BTreeMap<u16, Tenure>,
    /// The configuration of the current generation, the last one that worked, and all that still have
    /// workers.
    pub(super) configurations: BTreeMap<u64, Arc<Vassal>>,
    pub(super) pending_requests: Vec<PendingRequest>,
    pub(super) recycled: Recycled,
    /// When the wait for each worker that isn't ready started.
    pub(super) awaited_since: BTreeMap<u16, Instant>,
    /// The template that its workers are forked from, if its file asks for that.
    pub(super) template: Option<Template>,
    /// When the last process was started.
    pub(super) last_start: SystemTime,
    /// The generation whose text was saved as working.
    pub(super) proven_saved: Option<u64>,
    /// A watch of the app's own files, while it is only waiting for an edit or reloads on changes.
    pub(super) source_watch: Option<SourceWatch>,
    /// A version of its file for which it isn't known yet whether it can be followed.
    pub(super) pending_version: Option<PendingVersion>,
    /// Pending preparations of starts, by generation.
    pub(super) preparations: BTreeMap<u64, Preparation>,
    /// Lookups that take long.
    pub(super) slow_lookups: BTreeMap<LookupId, String>,
    /// Its processes that aren't workers any more: earlier templates, and forks that were no longer wanted.
    pub(super) former_processes: BTreeSet<u32>,
    /// Its exited processes that no worker has been told of yet.
    pub(super) ended: VecDeque<u32>,
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
            tenures: BTreeMap::new(),
            configurations: BTreeMap::new(),
            pending_requests: Vec::new(),
            recycled: Recycled::default(),
            awaited_since: BTreeMap::new(),
            template: None,
            last_start: SystemTime::UNIX_EPOCH,
            proven_saved: None,
            source_watch: None,
            pending_version: None,
            preparations: BTreeMap::new(),
            slow_lookups: BTreeMap::new(),
            former_processes: BTreeSet::new(),
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
        let serving = |number| Some((self.worker(number), self.worker_process(number)?.serving.clone()?));
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
        self.worker_processes().filter_map(|(number, it)| {
            let worker = self.supervisor.worker(number)?;
            Some(WorkerRecord {
                name: self.worker(number).to_string(),
                identity: it.process.identity(),
                generation: worker.generation,
                fingerprint: it.fingerprint.clone(),
                stage: stage_record(worker.stage),
                serving: it.serving.clone(),
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
        self.configurations.retain(|generation, _| {
            *generation == current || Some(*generation) == fallback || in_use.contains(generation)
        });
        self.tell_of_ended();
        self.answer_pending_requests();
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
        let is_attached = |it: &u16| self.worker_process(*it).is_some_and(|it| it.attachment.is_some());
        let newest = self.supervisor.ready().filter(is_attached).max_by_key(generation);
        let newest = newest.and_then(|number| self.worker_process(number)?.attachment.as_ref());
        let Some(commands) = newest.map(|it| it.commands.clone()) else { return };
        send_ended(&mut self.ended, &commands);
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
        Some(match self.configurations.get(&generation)?.python.path() {
            path if path.as_os_str().is_empty() => "`python3` of PATH".to_owned(),
            path => path.display().to_string(),
        })
    }

    /// Whether its file is gone and all of its workers have exited.
    pub(super) fn is_over(&self) -> bool {
        let file_is_gone = self.vassal.is_none() && self.rejected.is_none() && self.file_error.is_none();
        file_is_gone && self.pending_version.is_none() && self.has_no_process()
    }

    /// Whether it has no processes.
    pub(super) fn has_no_process(&self) -> bool {
        self.tenures.is_empty() && self.template.is_none() && self.former_processes.is_empty()
    }

    fn answer_pending_requests(&mut self) {
        for request in std::mem::take(&mut self.pending_requests) {
            if let Some(unanswered) = request.answer_if_known(self) {
                self.pending_requests.push(unanswered);
            }
        }
    }

    /// Refuses all waiting requests.
    pub(super) fn refuse_pending_requests(&mut self, error: &AdminError) {
        for request in self.pending_requests.drain(..) {
            request.refuse(error.clone());
        }
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
        Stage::Draining(_) => StageRecord::Draining,
        Stage::Stopping { .. } => StageRecord::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use supervise::DrainOrder;

    use super::*;

    #[test]
    fn notices_of_exited_processes_leave_room_for_commands() {
        let (commands, mut orders) = mpsc::channel(8);
        let mut ended: VecDeque<u32> = (1..=10).collect();
        send_ended(&mut ended, &commands);
        for _ in 0..ROOM_FOR_ORDERS {
            commands.try_send(Command::Drain(DrainOrder::stop(Duration::ZERO))).unwrap();
        }
        let mut pids = Vec::new();
        while let Ok(command) = orders.try_recv() {
            pids.extend(if let Command::Ended(pid) = command { Some(pid) } else { None });
        }
        assert_eq!(pids, [1, 2, 3, 4]);
        assert_eq!(ended, [5, 6, 7, 8, 9, 10], "they are sent later");
    }
}
