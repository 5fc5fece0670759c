//! Decides after each event which workers are missing, and which are superfluous.

use std::time::Instant;

use super::trust::Trust;
use super::{Supervisor, Want};
use crate::event::{Action, DrainCause, TerminateCause};
use crate::recycle::RecycleCause;
use crate::worker::{Stage, Worker};

impl Supervisor {
    /// Stops superfluous workers.
    pub(super) fn reconcile(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.want {
            Want::Unknown => {}
            Want::None => self.retire_all(now, actions),
            Want::Workers(wanted) => {
                self.stop_superfluous_starts(usize::from(wanted), now, actions);
                self.drain_superfluous(usize::from(wanted), now, actions);
                self.end_oldest_kept(usize::from(wanted), now, actions);
                self.give_up_where_nothing_helps(actions);
            }
        }
    }

    fn retire_all(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let limits = self.limits;
        for (number, worker) in &mut self.workers {
            match worker.stage {
                Stage::Starting { .. } => {
                    actions.push(worker.terminate(*number, now, TerminateCause::Superfluous));
                }
                Stage::Ready { .. } => {
                    actions.push(worker.drain(*number, now, limits.grace, DrainCause::Removed));
                }
                Stage::Draining(_) if worker.sockets_end(&limits).is_some() => {
                    actions.push(worker.close_sockets(*number, now, limits.grace, DrainCause::Removed));
                }
                Stage::Draining(_) | Stage::Stopping { .. } => {}
            }
        }
    }

    /// Has the oldest of the workers that WebSockets keep close them, if there are too many: each holds memory.
    fn end_oldest_kept(&mut self, wanted: usize, now: Instant, actions: &mut Vec<Action>) {
        let limits = self.limits;
        let mut kept: Vec<(Instant, u16, &mut Worker)> = self
            .workers
            .iter_mut()
            .filter_map(|(number, it)| Some((it.sockets_end(&limits)?, *number, it)))
            .collect();
        // All have the same time, so the oldest ends first.
        kept.sort_by_key(|(end, number, _)| (*end, *number));
        let too_many = kept.len().saturating_sub(kept_at_most(wanted));
        for (_, number, worker) in kept.into_iter().take(too_many) {
            actions.push(worker.close_sockets(number, now, limits.grace, DrainCause::TooManyKept));
        }
    }

    /// Stops starts of other generations, and those of the filling generation beyond the wanted number.
    fn stop_superfluous_starts(&mut self, wanted: usize, now: Instant, actions: &mut Vec<Action>) {
        let mut too_many = self.committed().saturating_sub(wanted);
        let (filling, trial) = (self.filling(), self.trial());
        for (number, worker) in self.workers.iter_mut().rev().filter(|(_, worker)| worker.is_starting()) {
            if worker.generation == filling {
                if too_many == 0 {
                    continue;
                }
                too_many -= 1;
            } else if Some(worker.generation) == trial {
                continue;
            }
            actions.push(worker.terminate(*number, now, TerminateCause::Superfluous));
        }
    }

    /// Drains serving workers beyond the wanted number: the oldest generation first, then those whose threads are
    /// all held, then those due for recycling, then the highest numbers.
    fn drain_superfluous(&mut self, wanted: usize, now: Instant, actions: &mut Vec<Action>) {
        let current = self.generation;
        let mut ready: Vec<(u16, &mut Worker)> =
            self.workers.iter_mut().filter(|(_, w)| w.is_ready()).map(|(number, w)| (*number, w)).collect();
        let is_held = |due| due == Some(RecycleCause::Held);
        ready.sort_by_key(|(number, w)| (w.generation, !is_held(w.due), w.due.is_none(), u16::MAX - number));
        let too_many = ready.len().saturating_sub(wanted);
        for (number, worker) in ready.into_iter().take(too_many) {
            let cause = match worker.due {
                _ if worker.generation < current => DrainCause::Superseded,
                Some(cause) => DrainCause::Recycled(cause),
                None => DrainCause::Superfluous,
            };
            actions.push(worker.drain(number, now, self.limits.grace, cause));
        }
    }

    fn give_up_where_nothing_helps(&mut self, actions: &mut Vec<Action>) {
        if let Trust::Doubted(failure) = self.trust
            && !self.workers.values().any(Worker::is_starting)
        {
            self.trust = Trust::GivenUp;
            actions.push(Action::GiveUp { failure });
        }
    }

    /// Starts a process, if one is due.
    pub(super) fn start_one(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(generation) = self.next_start(now) else { return };
        let Some(number) = (1..=u16::MAX).find(|number| !self.workers.contains_key(number)) else { return };
        self.workers.insert(number, Worker::starting(generation, now, self.limits.start));
        actions.push(Action::Spawn { number, generation });
    }

    /// Returns the generation of the next process, if one is due.
    pub(super) fn next_start(&self, now: Instant) -> Option<u64> {
        let Want::Workers(wanted) = self.want else { return None };
        if self.missing(usize::from(wanted)) > 0 && !self.backoff.is_waiting(now) {
            return Some(self.filling());
        }
        self.trial().filter(|_| !self.has_trial() && !self.needs_edit && !self.trial.is_waiting(now))
    }

    /// The generation that missing workers are started with.
    pub(super) fn filling(&self) -> u64 {
        match self.trust {
            Trust::Abandoned => self.fallback().unwrap_or(self.generation),
            _ => self.generation,
        }
    }

    /// The generation that is tried next to the one that serves.
    pub(super) fn trial(&self) -> Option<u64> {
        (self.trust == Trust::Abandoned && self.filling() != self.generation).then_some(self.generation)
    }

    pub(super) fn has_trial(&self) -> bool {
        self.workers.values().any(|worker| worker.is_starting() && Some(worker.generation) == self.trial())
    }

    /// The number of missing workers that may be started at once, ignoring the backoff.
    pub(super) fn missing(&self, wanted: usize) -> usize {
        let at_once = match self.trust {
            Trust::Untried | Trust::Proven => surge(wanted),
            Trust::Shaken | Trust::Abandoned => 1,
            Trust::Doubted(_) | Trust::GivenUp => 0,
        };
        let filling = self.filling();
        let starts = |worker: &&Worker| worker.is_starting() && worker.generation == filling;
        let starting = self.workers.values().filter(starts).count();
        wanted.saturating_sub(self.committed()).min(at_once.saturating_sub(starting))
    }

    /// The number of workers that count towards the wanted number. Workers of older generations count if they
    /// aren't to be replaced. Of those due for recycling, only a few are replaced at a time.
    fn committed(&self) -> usize {
        let filling = self.filling();
        let fills = |worker: &&Worker| match worker.stage {
            Stage::Starting { .. } => worker.generation == filling,
            Stage::Ready { .. } => worker.generation == self.generation || self.trust == Trust::Abandoned,
            Stage::Draining(_) | Stage::Stopping { .. } => false,
        };
        let filled = || self.workers.values().filter(fills);
        let due = filled().filter(|worker| worker.due.is_some()).count();
        filled().count() - due.min(recycled_at_once(filled().count()))
    }
}

/// How many old workers WebSockets may keep, for that many wanted ones.
fn kept_at_most(wanted: usize) -> usize {
    2 * wanted
}

/// How many of that many workers are recycled at once: one, or an eighth.
fn recycled_at_once(workers: usize) -> usize {
    workers.div_ceil(8)
}

/// How many may start at once: four, or a quarter.
fn surge(wanted: usize) -> usize {
    wanted.div_ceil(4).max(4)
}
