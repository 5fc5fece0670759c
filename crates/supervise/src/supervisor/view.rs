//! Queries of a supervisor's state.

use std::time::{Duration, Instant};

use super::trust::Trust;
use super::{Supervisor, Want};
use crate::drain::DrainOrder;
use crate::event::Limits;
use crate::worker::{Stage, Worker};

/// The overall state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No worker serves yet.
    Starting,
    /// At least one worker serves.
    Running,
    /// Older workers serve, while new ones take over.
    Reloading,
    /// Too few workers serve, and the next start is delayed.
    BackingOff,
    /// No worker serves, and only an edit or the next generation can help.
    Failed,
    /// No worker is wanted.
    Stopping,
}

/// Whether the wanted state has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All wanted workers serve, with the current generation.
    Done,
    /// Not yet.
    Underway,
}

/// A request to start a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Its generation is known to start.
    pub is_proven: bool,
    /// The app already has a serving worker.
    pub is_serving: bool,
    /// The last start of its generation failed.
    pub has_failed: bool,
}

/// What is missing after a failed start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// The number of workers that are missing.
    pub missing: u16,
    /// The time until the next start. None if it is running, waits for its turn, or awaits an edit.
    pub next_start: Option<Duration>,
    /// Nothing is started before the app's files change.
    pub awaits_edit: bool,
    /// Set if the current generation couldn't start, and an older one serves.
    pub abandoned: Option<Abandoned>,
}

/// What happens if a generation couldn't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned {
    /// The generation that serves.
    pub serving: u64,
    /// The time until the current generation is retried. None if it is being tried, waits for its turn, or
    /// awaits an edit.
    pub next_trial: Option<Duration>,
    /// The current generation isn't retried before the app's files change.
    pub awaits_edit: bool,
}

impl Supervisor {
    /// Returns the state of the app.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let wanted = match self.want {
            Want::None => return Phase::Stopping,
            Want::Unknown => 0,
            Want::Workers(wanted) => wanted,
        };
        let waiting = self.backoff.is_waiting(now) && self.missing(usize::from(wanted)) > 0;
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

    /// Returns whether the wanted state has been reached.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let Want::Workers(wanted) = self.want else { return Progress::Underway };
        let ready = self.workers.values().filter(|it| it.is_ready()).count();
        match ready == usize::from(wanted) && !self.has_older_ready() {
            true => Progress::Done,
            false => Progress::Underway,
        }
    }

    /// Whether the wanted state has been reached, and no worker is due for recycling.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.progress() == Progress::Done
            && !self.workers.values().any(|it| it.is_ready() && it.due.is_some())
    }

    /// The number of failed starts of generations that were current at that time.
    #[must_use]
    pub fn start_failures(&self) -> u64 {
        self.start_failures
    }

    /// The generation of new workers.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The limits of workers.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What to tell a worker that drains. None if it doesn't.
    #[must_use]
    pub fn drain_order(&self, number: u16, now: Instant) -> Option<DrainOrder> {
        match self.workers.get(&number)?.stage {
            Stage::Draining(drain) => Some(drain.order(now, &self.limits)),
            _ => None,
        }
    }

    /// How long the open WebSockets of a draining worker may still keep it. None if none do.
    #[must_use]
    pub fn sockets_end(&self, number: u16, now: Instant) -> Option<Duration> {
        Some(self.workers.get(&number)?.sockets_end(&self.limits)?.saturating_duration_since(now))
    }

    /// Whether the current generation has failed to start, and doesn't serve: only a new generation is tried
    /// at once.
    #[must_use]
    pub fn needs_new_generation(&self) -> bool {
        self.refusing || matches!(self.trust, Trust::Abandoned | Trust::Doubted(_) | Trust::GivenUp)
    }

    /// Returns the process that should be started now. It waits for [`crate::Event::MayStart`].
    #[must_use]
    pub fn demand(&self, now: Instant) -> Option<Demand> {
        let generation = self.next_start(now)?;
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

    /// The number of processes that aren't ready yet.
    #[must_use]
    pub fn starting(&self) -> usize {
        self.workers.values().filter(|it| it.is_starting()).count()
    }

    /// Returns what is missing at `now`, and when the next attempt takes place.
    #[must_use]
    pub fn outlook(&self, now: Instant) -> Outlook {
        let Want::Workers(wanted) = self.want else { return Outlook::default() };
        let ready = u16::try_from(self.ready().count()).unwrap_or(u16::MAX);
        let awaits_edit = matches!(self.trust, Trust::Doubted(_) | Trust::GivenUp);
        let has_failed = awaits_edit
            || matches!(self.trust, Trust::Shaken | Trust::Abandoned)
            || self.backoff.is_waiting(now);
        Outlook {
            missing: if has_failed { wanted.saturating_sub(ready) } else { 0 },
            next_start: self.backoff_end().filter(|it| *it > now).map(|it| it - now),
            awaits_edit,
            abandoned: (self.trust == Trust::Abandoned).then_some(Abandoned {
                serving: self.filling(),
                next_trial: self.trial_end().filter(|it| *it > now).map(|it| it - now),
                awaits_edit: self.needs_edit,
            }),
        }
    }

    /// Returns all processes, by number.
    pub fn workers(&self) -> impl Iterator<Item = (u16, &Worker)> {
        self.workers.iter().map(|(number, worker)| (*number, worker))
    }

    /// Returns one process.
    #[must_use]
    pub fn worker(&self, number: u16) -> Option<&Worker> {
        self.workers.get(&number)
    }

    /// Returns the numbers of workers that accept requests.
    pub fn ready(&self) -> impl Iterator<Item = u16> {
        self.workers.iter().filter(|(_, worker)| worker.is_ready()).map(|(number, _)| *number)
    }

    /// Whether no worker serves, and none is expected soon: then requests are refused instead of queued.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        let none_will = self.refusing || self.trust == Trust::GivenUp;
        none_will && self.ready().next().is_none()
    }

    /// The minimum age of workers, if new ones were found to need more memory than the limit.
    #[must_use]
    pub fn memory_limit_is_too_low(&self) -> Option<Duration> {
        self.memory_floor.raised()
    }

    /// Whether as many workers serve as wanted, of whichever generation works.
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
        let deadlines = self.workers.values().filter_map(|it| it.deadline(&self.limits));
        let recycle = &self.limits.recycle;
        let ends = self.workers.iter().filter_map(|(number, it)| it.end_of_life(*number, recycle));
        let floor = self.memory_floor.age();
        let memory = self.workers.values().filter_map(|it| it.memory_due(recycle, floor));
        let starts = [self.backoff_end(), self.trial_end()].into_iter().flatten().filter(|it| *it > now);
        deadlines.chain(ends).chain(memory).chain(starts).min()
    }

    fn backoff_end(&self) -> Option<Instant> {
        let Want::Workers(wanted) = self.want else { return None };
        self.backoff.until().filter(|_| self.missing(usize::from(wanted)) > 0)
    }

    fn trial_end(&self) -> Option<Instant> {
        let Want::Workers(_) = self.want else { return None };
        let is_due = self.trial().is_some() && !self.has_trial() && !self.needs_edit;
        self.trial.until().filter(|_| is_due)
    }

    pub(super) fn has_older_ready(&self) -> bool {
        self.workers.values().any(|it| it.is_ready() && it.generation < self.generation)
    }

    /// The state that is visible in the routing table.
    pub(super) fn published(&self) -> (Vec<u16>, bool) {
        (self.ready().collect(), self.is_failed())
    }
}
