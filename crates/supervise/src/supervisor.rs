//! The state of one app's workers, and what each event does to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::event::{Action, Adoption, DrainCause, Event, Exit, Limits, StartFailure};
use crate::plan;
use crate::recycle::Usage;
use crate::worker::{Stage, Worker};

/// How long an adopted worker has to attach again.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);
/// How long a worker has to attach again whose stream has ended: it tries once a second, unless it is frozen.
const ATTACH_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The workers of one app.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub(crate) want: Want,
    pub(crate) generation: u64,
    pub(crate) limits: Limits,
    pub(crate) trust: Trust,
    pub(crate) backoff: Backoff,
    pub(crate) workers: BTreeMap<u16, Worker>,
    pub(crate) start_failures: u64,
}

/// How many workers there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Not known yet: what was adopted is left alone.
    Unknown,
    Workers(u16),
    /// What is there is drained.
    None,
}

/// What is known of the current generation's ability to start.
///
/// ```text
///  from                            cause                                          to
///  any                             a new generation is wanted                     Untried
///  any                             one of its workers is ready                    Proven
///  Untried                         a start fails, older ones serve                Abandoned
///  Untried, Proven, Shaken         a start fails, others serve                    Shaken
///  Untried, Proven, Shaken         a start crashes, none serves                   Shaken
///  Untried, Proven, Shaken,        a start cannot succeed (import, interpreter,   Doubted
///  Abandoned                       time), none serves
///  Doubted                         no other start is under way any more           GivenUp
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// None of its workers has become ready or failed.
    Untried,
    /// One of its workers became ready.
    Proven,
    /// The last start failed: they go one at a time, with a backoff.
    Shaken,
    /// Its first worker failed while older ones served: those stay, and it is only used, slowly, to
    /// replace what crashes.
    Abandoned,
    /// The app cannot start and none serves: only starts that are under way may still prove otherwise.
    Doubted(StartFailure),
    /// They did not. Nothing is tried.
    GivenUp,
}

impl Supervisor {
    /// An app without workers, of which nothing is wanted yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            want: Want::Unknown,
            generation: 0,
            limits,
            trust: Trust::Untried,
            backoff: Backoff::default(),
            workers: BTreeMap::new(),
            start_failures: 0,
        }
    }

    /// Takes note of what happened, and tells what is to be done, in order. An event that does not fit
    /// the state, such as one of a worker that is gone, does nothing.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let before = self.published();
        let mut actions = Vec::new();
        self.apply(event, now, &mut actions);
        self.expire(now, &mut actions);
        self.check_due(now);
        plan::reconcile(self, now, &mut actions);
        if self.published() != before {
            actions.insert(0, Action::Publish);
        }
        actions
    }

    fn apply(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        match event {
            Event::Wanted { generation, workers, limits } => self.wanted(generation, workers, limits),
            Event::Removed => self.want = Want::None,
            Event::Adopted { number, generation, stage, age } => {
                self.adopt(number, generation, stage, age, now);
            }
            Event::Attached { number } => self.attached(number),
            Event::Ready { number } => self.became_ready(number, now),
            Event::Draining { number } => self.draining(number, now),
            Event::Detached { number } => self.detached(number, now),
            Event::Stuck { number } => self.stuck(number, now, actions),
            Event::Used { number, usage } => self.used(number, usage),
            Event::SpawnFailed { number } => self.spawn_failed(number, now, actions),
            Event::Exited { number, exit } => self.exited(number, exit, now, actions),
            Event::Tick => {}
        }
    }

    fn wanted(&mut self, generation: u64, workers: u16, limits: Limits) {
        self.want = Want::Workers(workers);
        if self.limits.recycle != limits.recycle {
            self.workers.values_mut().for_each(|worker| worker.due = None);
        }
        self.limits = limits;
        if generation > self.generation {
            self.generation = generation;
            self.backoff = Backoff::default();
            let proven = self.workers.values().any(|it| it.generation == generation && it.is_ready());
            self.trust = if proven { Trust::Proven } else { Trust::Untried };
        }
    }

    fn adopt(&mut self, number: u16, generation: u64, adoption: Adoption, age: Duration, now: Instant) {
        let stage = match adoption {
            Adoption::Starting => Stage::Starting { deadline: now + self.limits.start },
            Adoption::Ready => Stage::Ready { since: now },
            Adoption::Draining => Stage::Draining { deadline: now + self.limits.grace },
        };
        let born = now.checked_sub(age).unwrap_or(now);
        let worker = Worker { attach_by: Some(now + ATTACH_WITHIN), ..Worker::new(generation, stage, born) };
        self.workers.insert(number, worker);
    }

    fn attached(&mut self, number: u16) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.attach_by = None;
        }
    }

    fn became_ready(&mut self, number: u16, now: Instant) {
        let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_starting()) else { return };
        worker.stage = Stage::Ready { since: now };
        if worker.generation == self.generation {
            self.trust = Trust::Proven;
        }
    }

    fn draining(&mut self, number: u16, now: Instant) {
        let deadline = now + self.limits.grace;
        match self.workers.get_mut(&number) {
            Some(worker) if worker.is_starting() || worker.is_ready() => {
                worker.stage = Stage::Draining { deadline }
            }
            _ => {}
        }
    }

    fn detached(&mut self, number: u16, now: Instant) {
        if let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_ready()) {
            worker.attach_by = Some(now + ATTACH_AGAIN_WITHIN);
        }
    }

    /// Its place is free at once: it would do no good to wait for another.
    fn stuck(&mut self, number: u16, now: Instant, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&number).filter(|it| it.is_ready()) {
            actions.push(worker.drain(number, now, self.limits.grace, DrainCause::Stuck));
        }
    }

    fn used(&mut self, number: u16, usage: Usage) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.usage = usage;
        }
    }

    fn check_due(&mut self, now: Instant) {
        let recycle = self.limits.recycle;
        self.workers.iter_mut().for_each(|(number, worker)| worker.check_due(*number, &recycle, now));
    }

    fn spawn_failed(&mut self, number: u16, now: Instant, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.remove(&number) {
            self.start_failed(worker.generation, StartFailure::NotSpawned, now, actions);
        }
    }

    fn exited(&mut self, number: u16, exit: Exit, now: Instant, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&number) else { return };
        match (worker.stage, exit) {
            (Stage::Starting { .. }, Exit::Unusable) => {
                self.start_failed(worker.generation, StartFailure::Unusable, now, actions);
            }
            (Stage::Starting { .. }, Exit::Orderly | Exit::Crashed) => {
                self.start_failed(worker.generation, StartFailure::Exited, now, actions);
            }
            (Stage::Ready { since }, _) => self.backoff.crashed(since, now),
            (Stage::Draining { .. } | Stage::Stopping { .. }, _) => {}
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut timed_out = None;
        for (number, worker) in &mut self.workers {
            let was_starting = worker.is_starting();
            let Some(action) = worker.overdue(*number, now) else { continue };
            if was_starting && matches!(action, Action::Kill { .. }) {
                timed_out = Some(worker.generation);
            }
            actions.push(action);
        }
        if let Some(generation) = timed_out {
            self.start_failed(generation, StartFailure::TimedOut, now, actions);
        }
    }

    /// A worker did not become ready. What that means depends on who serves meanwhile.
    fn start_failed(
        &mut self,
        generation: u64,
        failure: StartFailure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if generation != self.generation {
            return;
        }
        self.start_failures += 1;
        let serving = self.workers.values().any(Worker::is_ready);
        match failure.is_worth_a_retry() {
            true => self.backoff.failed_to_start(now),
            false => self.backoff.failed_for_good(now),
        }
        self.trust = match self.trust {
            Trust::Untried if self.has_older_ready() => {
                actions.push(Action::AbandonReload { failure });
                Trust::Abandoned
            }
            Trust::Abandoned if serving => Trust::Abandoned,
            _ if serving => Trust::Shaken,
            Trust::Doubted(first) => Trust::Doubted(first),
            Trust::GivenUp => Trust::GivenUp,
            _ if failure.is_worth_a_retry() => Trust::Shaken,
            _ => Trust::Doubted(failure),
        };
    }
}
