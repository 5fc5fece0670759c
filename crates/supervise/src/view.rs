//! What others may see of a supervisor's state.

use std::time::Instant;

use crate::event::Limits;
use crate::plan;
use crate::supervisor::{Supervisor, Trust, Want};
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
    /// None serves, and none is tried until the next generation.
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

    /// Whether the current generation has failed to start, and does not serve: another try takes a new one.
    #[must_use]
    pub fn needs_new_generation(&self) -> bool {
        matches!(self.trust, Trust::Abandoned | Trust::Doubted(_) | Trust::GivenUp)
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

    /// Whether none serves and none will until the next generation.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.trust == Trust::GivenUp && self.ready().next().is_none()
    }

    /// Whether no worker is wanted and none is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.want == Want::None && self.workers.is_empty()
    }

    /// When [`crate::Event::Tick`] is due if nothing happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let deadlines = self.workers.values().filter_map(Worker::deadline);
        let recycle = &self.limits.recycle;
        let ends = self.workers.iter().filter_map(|(number, it)| it.end_of_life(*number, recycle));
        deadlines.chain(ends).chain(self.backoff_end()).min()
    }

    fn backoff_end(&self) -> Option<Instant> {
        let Want::Workers(wanted) = self.want else { return None };
        self.backoff.until().filter(|_| plan::missing(self, usize::from(wanted)) > 0)
    }

    pub(crate) fn has_older_ready(&self) -> bool {
        self.workers.values().any(|it| it.is_ready() && it.generation < self.generation)
    }

    /// What the routing table shows of it.
    pub(crate) fn published(&self) -> (Vec<u16>, bool) {
        (self.ready().collect(), self.is_failed())
    }
}
