//! Room for one exchange at one worker.

use std::sync::Arc;
use std::time::Instant;

use super::member::Member;
use super::queue::Waiting;
use super::{Place, Pool};
use crate::pace;

/// Room for one exchange at one worker, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<L: Clone> {
    pool: Arc<Pool<L>>,
    instance: u64,
    pub(super) granted: Instant,
    place: Place,
    ending: Ending,
    link: L,
}

/// What a worker did with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Served,
    /// It came back unasked, and would again, at once: others are chosen before this worker.
    Declined,
    /// It came back as it was asked to, because it waited there: the app is slower than it seemed.
    Recalled,
    /// It came back because its client has gone, or never reached the worker: that says nothing of the worker.
    Cancelled,
}

impl<L: Clone> Lease<L> {
    pub(super) fn new(pool: Arc<Pool<L>>, member: &Member<L>, link: L, granted: Instant) -> Self {
        let place = if member.in_flight < member.capacity { Place::Free } else { Place::Ahead };
        Self { pool, instance: member.instance, granted, place, ending: Ending::Served, link }
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

    /// The worker has answered, and goes on with a body that may have no end: an exclusive request shares the worker
    /// from here on.
    pub(crate) fn has_answered(&self) {
        self.pool.change(|state| state.reservation.served_by(self.instance));
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
        self.pool.release(self.instance, self.granted, self.ending);
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
