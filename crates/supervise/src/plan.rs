//! Decides after each event which workers are missing, and which are superfluous.

use std::time::Instant;

use crate::event::{Action, DrainCause, TerminateCause};
use crate::recycle::RecycleCause;
use crate::supervisor::{Supervisor, Want};
use crate::trust::Trust;
use crate::worker::{Stage, Worker};

/// Stops superfluous workers.
pub(crate) fn reconcile(it: &mut Supervisor, now: Instant, actions: &mut Vec<Action>) {
    match it.want {
        Want::Unknown => {}
        Want::None => retire_all(it, now, actions),
        Want::Workers(wanted) => {
            stop_superfluous_starts(it, usize::from(wanted), now, actions);
            drain_superfluous(it, usize::from(wanted), now, actions);
            give_up_where_nothing_helps(it, actions);
        }
    }
}

fn retire_all(it: &mut Supervisor, now: Instant, actions: &mut Vec<Action>) {
    for (number, worker) in &mut it.workers {
        match worker.stage {
            Stage::Starting { .. } => {
                actions.push(worker.terminate(*number, now, TerminateCause::Superfluous));
            }
            Stage::Ready { .. } => {
                actions.push(worker.drain(*number, now, it.limits.grace, DrainCause::Superfluous));
            }
            Stage::Draining { .. } | Stage::Stopping { .. } => {}
        }
    }
}

/// Stops starts of other generations, and those of the filling generation beyond the wanted number.
fn stop_superfluous_starts(it: &mut Supervisor, wanted: usize, now: Instant, actions: &mut Vec<Action>) {
    let mut too_many = committed(it).saturating_sub(wanted);
    let (filling, trial) = (filling(it), trial(it));
    for (number, worker) in it.workers.iter_mut().rev().filter(|(_, worker)| worker.is_starting()) {
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
fn drain_superfluous(it: &mut Supervisor, wanted: usize, now: Instant, actions: &mut Vec<Action>) {
    let current = it.generation;
    let mut ready: Vec<(u16, &mut Worker)> =
        it.workers.iter_mut().filter(|(_, w)| w.is_ready()).map(|(number, w)| (*number, w)).collect();
    let is_held = |due| due == Some(RecycleCause::Held);
    ready.sort_by_key(|(number, w)| (w.generation, !is_held(w.due), w.due.is_none(), u16::MAX - number));
    let too_many = ready.len().saturating_sub(wanted);
    for (number, worker) in ready.into_iter().take(too_many) {
        let cause = match worker.due {
            _ if worker.generation < current => DrainCause::Superseded,
            Some(cause) => DrainCause::Recycled(cause),
            None => DrainCause::Superfluous,
        };
        actions.push(worker.drain(number, now, it.limits.grace, cause));
    }
}

fn give_up_where_nothing_helps(it: &mut Supervisor, actions: &mut Vec<Action>) {
    if let Trust::Doubted(failure) = it.trust
        && !it.workers.values().any(Worker::is_starting)
    {
        it.trust = Trust::GivenUp;
        actions.push(Action::GiveUp { failure });
    }
}

/// Starts a process, if one is due.
pub(crate) fn start_one(it: &mut Supervisor, now: Instant, actions: &mut Vec<Action>) {
    let Some(generation) = next_start(it, now) else { return };
    let Some(number) = (1..=u16::MAX).find(|number| !it.workers.contains_key(number)) else { return };
    it.workers.insert(number, Worker::starting(generation, now, it.limits.start));
    actions.push(Action::Spawn { number, generation });
}

/// Returns the generation of the next process, if one is due.
pub(crate) fn next_start(it: &Supervisor, now: Instant) -> Option<u64> {
    let Want::Workers(wanted) = it.want else { return None };
    if missing(it, usize::from(wanted)) > 0 && !it.backoff.is_waiting(now) {
        return Some(filling(it));
    }
    trial(it).filter(|_| !has_trial(it) && !it.needs_edit && !it.trial.is_waiting(now))
}

/// The generation that missing workers are started with.
pub(crate) fn filling(it: &Supervisor) -> u64 {
    match it.trust {
        Trust::Abandoned => it.fallback().unwrap_or(it.generation),
        _ => it.generation,
    }
}

/// The generation that is tried next to the one that serves.
pub(crate) fn trial(it: &Supervisor) -> Option<u64> {
    (it.trust == Trust::Abandoned && filling(it) != it.generation).then_some(it.generation)
}

pub(crate) fn has_trial(it: &Supervisor) -> bool {
    it.workers.values().any(|worker| worker.is_starting() && Some(worker.generation) == trial(it))
}

/// The number of missing workers that may be started at once, ignoring the backoff.
pub(crate) fn missing(it: &Supervisor, wanted: usize) -> usize {
    let at_once = match it.trust {
        Trust::Untried | Trust::Proven => surge(wanted),
        Trust::Shaken | Trust::Abandoned => 1,
        Trust::Doubted(_) | Trust::GivenUp => 0,
    };
    let filling = filling(it);
    let starts = |worker: &&Worker| worker.is_starting() && worker.generation == filling;
    let starting = it.workers.values().filter(starts).count();
    wanted.saturating_sub(committed(it)).min(at_once.saturating_sub(starting))
}

/// The number of workers that count towards the wanted number. Workers of older generations count if they
/// aren't to be replaced. Of those due for recycling, only a few are replaced at a time.
fn committed(it: &Supervisor) -> usize {
    let filling = filling(it);
    let fills = |worker: &&Worker| match worker.stage {
        Stage::Starting { .. } => worker.generation == filling,
        Stage::Ready { .. } => worker.generation == it.generation || it.trust == Trust::Abandoned,
        Stage::Draining { .. } | Stage::Stopping { .. } => false,
    };
    let filled = || it.workers.values().filter(fills);
    let due = filled().filter(|worker| worker.due.is_some()).count();
    filled().count() - due.min(recycled_at_once(filled().count()))
}

/// How many of that many workers are recycled at once: one, or an eighth.
fn recycled_at_once(workers: usize) -> usize {
    workers.div_ceil(8)
}

/// How many may start at once: four, or a quarter.
fn surge(wanted: usize) -> usize {
    wanted.div_ceil(4).max(4)
}
