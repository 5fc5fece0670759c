//! What others may see of a supervisor's state.

use std::time::{Duration, Instant};

use crate::event::Limits;
use crate::plan;
use crate::supervisor::{Supervisor, Want};
use crate::trust::Trust;
use crate::worker::Worker;

/// The state of an app, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No worker serves yet.
    Starting,
    /// At least one serves.
    Running,
    /// Older ones serve, while new ones take over.
    Reloading,
    /// Too few serve, and the next start waits.
    BackingOff,
    /// None serves, and only an edit or the next generation helps.
    Failed,
    /// None is wanted.
    Stopping,
}

/// How far what was asked for last has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// As many serve as are wanted, all of the current generation.
    Done,
    /// Not yet.
    Underway,
}

/// For whom a process is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Its generation is known to start.
    pub is_proven: bool,
    /// A worker of the app serves already.
    pub is_serving: bool,
    /// The last start of what it is to run failed.
    pub has_failed: bool,
}

/// What is missing of what is wanted, where a start has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// How many workers do not serve that should.
    pub missing: u16,
    /// Until the next start; None when it is under way, has its turn, or awaits an edit.
    pub next_start: Option<Duration>,
    /// The current generation could not start, and an older one serves.
    pub abandoned: Option<Abandoned>,
}

/// What is done in place of a generation that could not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned {
    /// The generation that fills the places.
    pub serving: u64,
    /// Until the current one is tried again; None when it is being tried, has its turn, or awaits an edit.
    pub next_trial: Option<Duration>,
}

impl Supervisor {
    /// The state of the app.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let wanted = match self.want {
            Want::None => return Phase::Stopping,
            Want::Unknown => 0,
            Want::Workers(wanted) => wanted,
        };
        let waiting = self.backoff.is_waiting(now) && plan::missing(self, usize::from(wanted)) > 0;
        let serving = self.workers.values().any(Worker::is_ready);
        match self.trust {
            Trust::GivenUp if !serving => Phase::Failed,
            _ if waiting => Phase::BackingOff,
            _ if !serving => Phase::Starting,
            Trust::Abandoned => Phase::Running,
            _ if self.has_older_ready() => Phase::Reloading,
            _ => Phase::Running,
        }
    }

    /// How far the workers are from what is wanted.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let Want::Workers(wanted) = self.want else { return Progress::Underway };
        let ready = self.workers.values().filter(|it| it.is_ready()).count();
        match ready == usize::from(wanted) && !self.has_older_ready() {
            true => Progress::Done,
            false => Progress::Underway,
        }
    }

    /// Whether what was asked for last is done, and nothing of it is about to be done again.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.progress() == Progress::Done
            && !self.workers.values().any(|it| it.is_ready() && it.due.is_some())
    }

    /// How many workers of their then current generation have failed to start.
    #[must_use]
    pub fn start_failures(&self) -> u64 {
        self.start_failures
    }

    /// What new workers run.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How long things may take.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether the current generation has failed to start, and does not serve: another try at once takes a new one.
    #[must_use]
    pub fn needs_new_generation(&self) -> bool {
        self.refusing || matches!(self.trust, Trust::Abandoned | Trust::Doubted(_) | Trust::GivenUp)
    }

    /// Whether a process is to be started now, and for whom. It waits for [`crate::Event::MayStart`].
    #[must_use]
    pub fn demand(&self, now: Instant) -> Option<Demand> {
        let generation = plan::next_start(self, now)?;
        let has_failed = match self.trust {
            Trust::Untried | Trust::Proven => false,
            Trust::Abandoned => generation == self.generation,
            Trust::Shaken | Trust::Doubted(_) | Trust::GivenUp => true,
        };
        let is_serving = self.ready().next().is_some();
        Some(Demand { is_proven: self.is_proven(), is_serving, has_failed })
    }

    /// Whether the current generation is known to start.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.trust == Trust::Proven
    }

    /// How many processes have not become ready yet.
    #[must_use]
    pub fn starting(&self) -> usize {
        self.workers.values().filter(|it| it.is_starting()).count()
    }

    /// What is missing at `now`, and what is done about it.
    #[must_use]
    pub fn outlook(&self, now: Instant) -> Outlook {
        let Want::Workers(wanted) = self.want else { return Outlook::default() };
        let ready = u16::try_from(self.ready().count()).unwrap_or(u16::MAX);
        let has_failed =
            matches!(self.trust, Trust::Shaken | Trust::Abandoned) || self.backoff.is_waiting(now);
        Outlook {
            missing: if has_failed { wanted.saturating_sub(ready) } else { 0 },
            next_start: self.backoff_end().filter(|it| *it > now).map(|it| it - now),
            abandoned: (self.trust == Trust::Abandoned).then_some(Abandoned {
                serving: plan::filling(self),
                next_trial: self.trial_end().filter(|it| *it > now).map(|it| it - now),
            }),
        }
    }

    /// All processes, by number.
    pub fn workers(&self) -> impl Iterator<Item = (u16, &Worker)> {
        self.workers.iter().map(|(number, worker)| (*number, worker))
    }

    /// One process.
    #[must_use]
    pub fn worker(&self, number: u16) -> Option<&Worker> {
        self.workers.get(&number)
    }

    /// The numbers of those that take requests.
    pub fn ready(&self) -> impl Iterator<Item = u16> {
        self.workers.iter().filter(|(_, worker)| worker.is_ready()).map(|(number, _)| *number)
    }

    /// Whether none serves, and the next one is not expected soon: requests are better refused than queued.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        let none_will = self.refusing || self.trust == Trust::GivenUp;
        none_will && self.ready().next().is_none()
    }

    /// How long each worker is kept at least, where fresh ones were found to need more memory than they may have.
    #[must_use]
    pub fn memory_limit_is_too_low(&self) -> Option<Duration> {
        self.memory_floor.raised()
    }

    /// Whether as many serve as are wanted, of whichever generation works.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Want::Workers(wanted) = self.want else { return false };
        let ready = self.ready().count() == usize::from(wanted);
        ready && (self.trust == Trust::Abandoned || !self.has_older_ready())
    }

    /// Whether no worker is wanted and none is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.want == Want::None && self.workers.is_empty()
    }

    /// When [`crate::Event::Tick`] is due if nothing happens before. A start that only waits for
    /// [`crate::Event::MayStart`] needs none.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let deadlines = self.workers.values().filter_map(Worker::deadline);
        let recycle = &self.limits.recycle;
        let ends = self.workers.iter().filter_map(|(number, it)| it.end_of_life(*number, recycle));
        let floor = self.memory_floor.age();
        let memory = self.workers.values().filter_map(|it| it.memory_due(recycle, floor));
        let starts = [self.backoff_end(), self.trial_end()].into_iter().flatten().filter(|it| *it > now);
        deadlines.chain(ends).chain(memory).chain(starts).min()
    }

    fn backoff_end(&self) -> Option<Instant> {
        let Want::Workers(wanted) = self.want else { return None };
        self.backoff.until().filter(|_| plan::missing(self, usize::from(wanted)) > 0)
    }

    fn trial_end(&self) -> Option<Instant> {
        let Want::Workers(_) = self.want else { return None };
        let is_due = plan::trial(self).is_some() && !plan::has_trial(self) && !self.needs_edit;
        self.trial.until().filter(|_| is_due)
    }

    pub(crate) fn has_older_ready(&self) -> bool {
        self.workers.values().any(|it| it.is_ready() && it.generation < self.generation)
    }

    /// What the routing table shows of it.
    pub(crate) fn published(&self) -> (Vec<u16>, bool) {
        (self.ready().collect(), self.is_failed())
    }
}
