//! One worker, and its stages.

use std::time::{Duration, Instant};

use crate::drain::{Drain, Sockets};
use crate::event::{Action, DrainCause, KillCause, Limits, TerminateCause};
use crate::recycle::{Recycle, RecycleCause, Usage};

/// How long a process may take to exit after SIGTERM.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);

/// The stages of a worker, with the cause of each transition:
///
/// ```text
///            ready                superseded, recycled, fewer wanted,
///                                 removed, stuck, drains by itself
///  Starting ────────▶ Ready ─────────────────────────────────▶ Draining
///     │ │              │ │                                       │   │
///     │ │              │ └── does not attach (again) ───────┐    │   │
///     │ │ superfluous  │               (SIGTERM)            │    │   │
///     │ └──────────────┼────────(SIGTERM)──────────────┐    │    │   │ grace over
///     │                │                               ▼    ▼    │   │ (SIGTERM)
///     │ start timeout  │                              Stopping ◀─┼───┘
///     │ (SIGKILL)      │                               │ ▲   │   │
///     └────────────────┼───────────────────────────────┼─┘   │   │
///                      │         after two seconds     └─────┘   │
///                      │ crash          (SIGKILL)      │ exit    │ exit
///                      ▼                               ▼         ▼
///                     gone ◀───────────────────────────┴─────────┘
/// ```
///
/// In every stage, an exit leads to gone, and frees the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The process was started, and hasn't reported that it is ready.
    Starting {
        /// When it is killed.
        deadline: Instant,
    },
    /// It accepts requests.
    Ready {
        /// Since when, as far as known.
        since: Instant,
    },
    /// It accepts nothing more, and finishes its requests. If it is replaced, it waits for its WebSockets, too.
    Draining(Drain),
    /// It was sent SIGTERM or SIGKILL.
    Stopping {
        /// When it is sent SIGKILL. None once it was.
        kill_at: Option<Instant>,
    },
}

/// A process, as known to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its generation.
    pub generation: u64,
    /// Its stage.
    pub stage: Stage,
    /// When it is given up if it hasn't attached: for adopted workers, and those whose stream has ended.
    pub(crate) attach_by: Option<Instant>,
    /// When its process was started.
    pub(crate) born: Instant,
    /// Its usage, as last reported.
    pub(crate) usage: Usage,
    /// Its open WebSockets, as last reported.
    pub(crate) sockets: u32,
    /// Since when it has exceeded the memory limit.
    pub(crate) over_memory: Option<Instant>,
    /// Why it is due for recycling. It serves until its replacement is ready.
    pub due: Option<RecycleCause>,
}

impl Worker {
    pub(crate) fn starting(generation: u64, now: Instant, limit: Duration) -> Self {
        Self::new(generation, Stage::Starting { deadline: now + limit }, now)
    }

    pub(crate) fn new(generation: u64, stage: Stage, born: Instant) -> Self {
        Self {
            generation,
            stage,
            attach_by: None,
            born,
            usage: Usage::default(),
            sockets: 0,
            over_memory: None,
            due: None,
        }
    }

    /// Checks whether it is due for recycling. Once it is, it stays so, even if its usage decreases.
    pub(crate) fn check_due(&mut self, number: u16, recycle: &Recycle, floor: Duration, now: Instant) {
        if !self.is_ready() || self.due.is_some() {
            return;
        }
        if recycle.is_over_memory(self.usage) {
            self.over_memory.get_or_insert(now);
        }
        self.due = recycle.cause(number, self.usage, now.duration_since(self.born), floor);
    }

    /// When it reaches the minimum age for being recycled, if it exceeds the memory limit.
    pub(crate) fn memory_due(&self, recycle: &Recycle, floor: Duration) -> Option<Instant> {
        let is_over = self.is_ready() && self.due.is_none() && recycle.is_over_memory(self.usage);
        self.born.checked_add(floor).filter(|_| is_over)
    }

    /// When it reaches its maximum age, if it hasn't.
    pub(crate) fn end_of_life(&self, number: u16, recycle: &Recycle) -> Option<Instant> {
        let lifetime = recycle.lifetime_of(number).filter(|_| self.is_ready() && self.due.is_none())?;
        self.born.checked_add(lifetime)
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    /// When something has to be done if no event happens before.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Starting { deadline } => Some(deadline),
            Stage::Draining(drain) => Some(drain.end(self.sockets, limits)),
            Stage::Stopping { kill_at } => return kill_at,
            Stage::Ready { .. } => None,
        };
        [stage, self.attach_by].into_iter().flatten().min()
    }

    /// A worker that is replaced keeps its WebSockets, and one that can't go on or isn't wanted doesn't.
    pub(crate) fn drain(&mut self, number: u16, now: Instant, grace: Duration, cause: DrainCause) -> Action {
        let sockets = match cause {
            DrainCause::Superseded | DrainCause::Recycled(_) | DrainCause::Superfluous => Sockets::Kept,
            DrainCause::Removed | DrainCause::TooManyKept | DrainCause::Stuck => Sockets::Closed,
        };
        self.stage = Stage::Draining(Drain::new(now, grace, sockets));
        Action::Drain { number, cause }
    }

    /// When it closes the WebSockets that keep it. None if none do.
    pub(crate) fn sockets_end(&self, limits: &Limits) -> Option<Instant> {
        match self.stage {
            Stage::Draining(drain) => drain.sockets_end(self.sockets, limits),
            _ => None,
        }
    }

    /// Records its open WebSockets. When the last one that kept it is closed, it gets the usual time to end.
    pub(crate) fn has_sockets(&mut self, open: u32, now: Instant, limits: &Limits) {
        let was_kept = self.sockets_end(limits).is_some();
        self.sockets = open;
        if let Stage::Draining(drain) = &mut self.stage
            && was_kept
            && open == 0
        {
            drain.deadline = drain.deadline.max(now + limits.grace);
        }
    }

    /// Tells a draining worker to close the WebSockets that keep it.
    pub(crate) fn close_sockets(
        &mut self,
        number: u16,
        now: Instant,
        grace: Duration,
        cause: DrainCause,
    ) -> Action {
        if let Stage::Draining(drain) = &mut self.stage {
            drain.close_sockets(now, grace);
        }
        Action::Drain { number, cause }
    }

    pub(crate) fn terminate(&mut self, number: u16, now: Instant, cause: TerminateCause) -> Action {
        self.stage = Stage::Stopping { kill_at: Some(now + KILL_AFTER) };
        Action::Terminate { number, cause }
    }

    pub(crate) fn kill(&mut self, number: u16, cause: KillCause) -> Action {
        self.stage = Stage::Stopping { kill_at: None };
        Action::Kill { number, cause }
    }

    /// Returns the action for a deadline that has passed.
    pub(crate) fn overdue(&mut self, number: u16, now: Instant, limits: &Limits) -> Option<Action> {
        self.deadline(limits).filter(|it| *it <= now)?;
        Some(match self.stage {
            Stage::Starting { deadline } if deadline <= now => self.kill(number, KillCause::StartTimeout),
            Stage::Draining(drain) if drain.end(self.sockets, limits) <= now => {
                self.terminate(number, now, TerminateCause::GraceOver)
            }
            Stage::Stopping { .. } => self.kill(number, KillCause::Stubborn),
            _ => self.terminate(number, now, TerminateCause::Silent),
        })
    }
}
