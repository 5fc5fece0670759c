//! Room for one exchange at one worker.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::member::Member;
use super::queue::Waiting;
use super::{Mode, Place, Pool, State};
use crate::pace;

/// Room for one exchange at one worker, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<L: Clone> {
    pool: Arc<Pool<L>>,
    instance: u64,
    pub(super) granted: Instant,
    place: Place,
    phase: Phase,
    ending: Ending,
    link: L,
}

/// How far an exchange is, as far as others are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its response has not begun. If it is exclusive, its worker is given nothing else for a while.
    Unanswered(Mode),
    /// Its response has begun, whose body may have no end.
    Answered,
}

/// What a worker did with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Served,
    /// It came back unasked, and would again, at once: others are chosen before this worker.
    Declined,
    /// It came back as it was asked to, because it waited there: the app is slower than it seemed.
    Recalled,
    /// It came back because its client has gone, or was never sent: that says nothing of the worker.
    Cancelled,
}

impl<L: Clone> Lease<L> {
    pub(super) fn new(pool: Arc<Pool<L>>, member: &Member<L>, mode: Mode, link: L, granted: Instant) -> Self {
        let place = if member.in_flight < member.capacity { Place::Free } else { Place::Ahead };
        let (phase, ending) = (Phase::Unanswered(mode), Ending::Cancelled);
        Self { pool, instance: member.instance, granted, place, phase, ending, link }
    }

    /// It goes out to the worker.
    pub(crate) fn sent(&mut self) {
        self.ending = Ending::Served;
    }

    /// The asking shard's link to the worker.
    pub(crate) fn link(&self) -> &L {
        &self.link
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// When the room was given.
    pub(crate) fn granted(&self) -> Instant {
        self.granted
    }

    /// Where the exchange is at the worker.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Whether it has waited at the worker for too long, if it still does.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        now > self.granted + pace::WAIT
    }

    /// Whether the worker is at one request for too long.
    pub(crate) fn is_held_up(&self, now: Instant) -> bool {
        let state = self.pool.state.lock();
        let member = state.members.iter().find(|it| it.instance == self.instance);
        member.is_some_and(|it| it.is_held_up(state.pace, now))
    }

    /// Whether it is to be the only one of its worker, and has not been answered: then it is to be looked after.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.phase == Phase::Unanswered(Mode::Exclusive)
    }

    /// Ends what this exclusive request holds up, if that takes too long.
    pub(crate) fn look_after(&self) {
        self.pool.look();
    }

    /// The worker has answered, and goes on with a body that may have no end: an exclusive request shares the worker
    /// from here on, and exclusive requests share it with this one.
    pub(crate) fn has_answered(&mut self) {
        let Phase::Unanswered(mode) = mem::replace(&mut self.phase, Phase::Answered) else { return };
        self.pool.change(|state| {
            if let Some(member) = state.member(self.instance) {
                member.answered += 1;
            }
            state.settled(self.instance, mode);
        });
    }

    /// The exchange comes back unasked.
    pub(crate) fn declined(self) {
        self.end(Ending::Declined);
    }

    /// The worker has handed the exchange back as it was asked to, so that another one serves it.
    pub(crate) fn recalled(self) {
        self.end(Ending::Recalled);
    }

    /// The exchange comes back because frontd wants it no more, or because it was never sent.
    pub(crate) fn cancelled(self) {
        self.end(Ending::Cancelled);
    }

    fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl<L: Clone> Drop for Lease<L> {
    fn drop(&mut self) {
        let Self { instance, granted, phase, ending, .. } = *self;
        self.pool.change(|state| {
            let State { members, pace, .. } = state;
            let Some(member) = members.iter_mut().find(|it| it.instance == instance) else { return };
            match ending {
                Ending::Served => pace.served(member.served(granted, Instant::now())),
                Ending::Declined => member.avoid(Instant::now()),
                Ending::Recalled => pace.recalled(),
                Ending::Cancelled => {}
            }
            member.in_flight -= 1;
            match phase {
                Phase::Answered => member.answered -= 1,
                Phase::Unanswered(mode) => state.settled(instance, mode),
            }
        });
    }
}

/// A lease for one that waited.
pub(super) struct Grant<L: Clone> {
    waiting: Waiting<L>,
    lease: Lease<L>,
}

impl<L: Clone> Grant<L> {
    pub(super) fn new(waiting: Waiting<L>, lease: Lease<L>) -> Self {
        Self { waiting, lease }
    }

    /// To be called without the pool's lock: a lease whose taker has gone releases itself, which takes it.
    pub(super) fn deliver(self) {
        let _taker_has_gone = self.waiting.reply.send(self.lease);
    }
}
