//! The state of one app's workers, and the effect of each event.

mod plan;
mod trust;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::drain::{Drain, Sockets};
use crate::event::{Action, Adoption, DrainCause, Event, Exit, Limits, StartFailure};
use crate::memory_floor::MemoryFloor;
use crate::recycle::{RecycleCause, Usage};
use crate::worker::{Stage, Worker};
use trust::Trust;

pub use view::{Abandoned, Demand, Outlook, Phase, Progress};

/// How long an adopted worker may take to attach.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);
/// How long a worker may take to attach again after its stream has ended: it tries once a second, unless it
/// is frozen.
const ATTACH_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The workers of one app.
#[derive(Debug, Clone)]
pub struct Supervisor {
    want: Want,
    generation: u64,
    limits: Limits,
    trust: Trust,
    /// The newest generation that had a ready worker.
    proven: Option<u64>,
    /// The delay before the next missing worker is started.
    backoff: Backoff,
    /// The delay before an abandoned generation is retried.
    trial: Backoff,
    /// Only an edit can help the current generation.
    needs_edit: bool,
    /// The last start failed for a reason that won't go away soon, and no worker has served since.
    refusing: bool,
    memory_floor: MemoryFloor,
    workers: BTreeMap<u16, Worker>,
    start_failures: u64,
}

/// The wanted number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Not known yet: adopted workers are left alone.
    Unknown,
    Workers(u16),
    /// All workers are drained.
    None,
}

impl Supervisor {
    /// Creates a supervisor without workers, whose wanted number isn't known.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            want: Want::Unknown,
            generation: 0,
            limits,
            trust: Trust::Untried,
            proven: None,
            backoff: Backoff::default(),
            trial: Backoff::default(),
            needs_edit: false,
            refusing: false,
            memory_floor: MemoryFloor::default(),
            workers: BTreeMap::new(),
            start_failures: 0,
        }
    }

    /// Handles an event, and returns the actions to perform, in order. An event that doesn't apply to the
    /// state, such as that of a worker that is gone, has no effect. A process is started only in response to
    /// [`Event::MayStart`].
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let before = self.published();
        let mut actions = Vec::new();
        self.apply(event, now, &mut actions);
        self.expire(now, &mut actions);
        self.check_due(now);
        self.reconcile(now, &mut actions);
        if event == Event::MayStart {
            self.start_one(now, &mut actions);
        }
        if self.published() != before {
            actions.insert(0, Action::Publish);
        }
        actions
    }

    fn apply(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        match event {
            Event::Wanted { generation, workers, limits } => self.wanted(generation, workers, limits),
            Event::Removed => self.removed(),
            Event::Adopted { number, generation, stage, age } => {
                self.adopt(number, generation, stage, age, now);
            }
            Event::Proven { generation } => self.proven = self.proven.max(Some(generation)),
            Event::Attached { number } => self.attached(number),
            Event::Ready { number } => self.became_ready(number, now),
            Event::Draining { number } => self.draining(number, now),
            Event::Detached { number } => self.detached(number, now),
            Event::Stuck { number } => self.stuck(number, now, actions),
            Event::Held { number } => self.held(number),
            Event::Sockets { number, open } => self.has_sockets(number, open, now),
            Event::Used { number, usage } => self.used(number, usage),
            Event::SpawnFailed { number } => {
                self.spawn_failed(number, StartFailure::NotSpawned, now, actions);
            }
            Event::SpawnRefused { number } => {
                self.spawn_failed(number, StartFailure::Refused, now, actions);
            }
            Event::Exited { number, exit } => self.exited(number, exit, now, actions),
            Event::SourcesChanged => self.sources_changed(),
            Event::Tick | Event::MayStart => {}
        }
    }

    fn wanted(&mut self, generation: u64, workers: u16, limits: Limits) {
        self.want = Want::Workers(workers);
        if self.limits.recycle != limits.recycle {
            self.memory_floor = MemoryFloor::default();
            // Held threads are reported once, and don't depend on limits.
            let is_over = |due: &mut RecycleCause| *due != RecycleCause::Held;
            for worker in self.workers.values_mut() {
                worker.over_memory = None;
                worker.due.take_if(is_over);
            }
        }
        self.limits = limits;
        if generation > self.generation {
            self.new_generation(generation);
        }
    }

    fn removed(&mut self) {
        self.want = Want::None;
        self.proven = None;
    }

    fn adopt(&mut self, number: u16, generation: u64, adoption: Adoption, age: Duration, now: Instant) {
        let stage = match adoption {
            Adoption::Starting => Stage::Starting { deadline: now + self.limits.start },
            Adoption::Ready => Stage::Ready { since: now },
            // Its WebSockets are known once it has attached.
            Adoption::Draining => {
                Stage::Draining(Drain::new(now, self.limits.grace.max(ATTACH_WITHIN), Sockets::Kept))
            }
        };
        let born = now.checked_sub(age).unwrap_or(now);
        let worker = Worker { attach_by: Some(now + ATTACH_WITHIN), ..Worker::new(generation, stage, born) };
        self.workers.insert(number, worker);
        if adoption == Adoption::Ready {
            self.proven = self.proven.max(Some(generation));
        }
    }

    fn attached(&mut self, number: u16) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.attach_by = None;
        }
    }

    fn became_ready(&mut self, number: u16, now: Instant) {
        let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_starting()) else { return };
        worker.stage = Stage::Ready { since: now };
        let generation = worker.generation;
        self.proved(generation, now);
    }

    fn draining(&mut self, number: u16, now: Instant) {
        match self.workers.get_mut(&number) {
            Some(worker) if worker.is_starting() || worker.is_ready() => {
                worker.stage = Stage::Draining(Drain::new(now, self.limits.grace, Sockets::Closed));
            }
            _ => {}
        }
    }

    fn has_sockets(&mut self, number: u16, open: u32, now: Instant) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.has_sockets(open, now, &self.limits);
        }
    }

    fn detached(&mut self, number: u16, now: Instant) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if worker.is_ready() {
            worker.attach_by = Some(now + ATTACH_AGAIN_WITHIN);
        } else if worker.sockets_end(&self.limits).is_some() {
            // It has closed the last of its WebSockets and is about to exit, or it is frozen.
            worker.attach_by = Some(now + ATTACH_AGAIN_WITHIN.max(self.limits.grace));
        }
    }

    /// A replacement is started at once, since waiting for the worker is useless.
    fn stuck(&mut self, number: u16, now: Instant, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_ready()) {
            actions.push(worker.drain(number, now, self.limits.grace, DrainCause::Stuck));
        }
    }

    /// They are replaced one by one, like recycled workers: disconnecting clients must not restart all
    /// workers at once.
    fn held(&mut self, number: u16) {
        if let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_ready()) {
            worker.due = Some(RecycleCause::Held);
        }
    }

    fn used(&mut self, number: u16, usage: Usage) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.usage = usage;
        }
    }

    fn check_due(&mut self, now: Instant) {
        let (recycle, floor) = (self.limits.recycle, self.memory_floor.age());
        for (number, worker) in &mut self.workers {
            let was_due = worker.due.is_some();
            worker.check_due(*number, &recycle, floor, now);
            if let (false, Some(RecycleCause::Memory(_)), Some(over)) =
                (was_due, worker.due, worker.over_memory)
            {
                self.memory_floor.replaced(worker.born, over, now);
            }
        }
    }

    fn spawn_failed(&mut self, number: u16, failure: StartFailure, now: Instant, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.remove(&number) {
            self.start_failed(worker.generation, failure, now, actions);
        }
    }

    fn exited(&mut self, number: u16, exit: Exit, now: Instant, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&number) else { return };
        match (worker.stage, exit) {
            (Stage::Starting { .. }, Exit::Unusable) => {
                self.start_failed(worker.generation, StartFailure::Unusable, now, actions);
            }
            (Stage::Starting { .. }, Exit::NeedsEdit) => {
                self.start_failed(worker.generation, StartFailure::NeedsEdit, now, actions);
            }
            (Stage::Starting { .. }, Exit::Orderly | Exit::Crashed) => {
                self.start_failed(worker.generation, StartFailure::Exited, now, actions);
            }
            (Stage::Ready { since }, _) => self.backoff.crashed(since, now),
            (Stage::Draining(_) | Stage::Stopping { .. }, _) => {}
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut timed_out = None;
        for (number, worker) in &mut self.workers {
            let was_starting = worker.is_starting();
            let Some(action) = worker.overdue(*number, now, &self.limits) else { continue };
            if was_starting && matches!(action, Action::Kill { .. }) {
                timed_out = Some(worker.generation);
            }
            actions.push(action);
        }
        if let Some(generation) = timed_out {
            self.start_failed(generation, StartFailure::TimedOut, now, actions);
        }
    }
}
