//! A lease: capacity for one exchange at one worker.

use std::mem;
use std::sync::Arc;
use tokio::time::Instant;

use super::{Isolation, Pool, Slot, State};
use crate::backend::pace;

/// Capacity for one exchange at one worker, given back on drop.
#[derive(Debug)]
pub(crate) struct Lease<L: Clone> {
    pool: Arc<Pool<L>>,
    instance: u64,
    pub(super) granted: Instant,
    slot: Slot,
    phase: Phase,
    ending: Ending,
    /// Whether it also counts as a WebSocket.
    socket: bool,
    link: L,
}

/// Capacity for one WebSocket at one worker, given back on drop.
#[derive(Debug)]
pub(crate) struct SocketLease<L: Clone> {
    pool: Arc<Pool<L>>,
    instance: u64,
}

/// The progress of an exchange, as far as it affects others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The response hasn't started. If the isolation is exclusive, the worker gets no other request for a while.
    Unanswered(Isolation),
    /// The response has started. Its body may be endless.
    Answered,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Served,
    /// The worker handed it back unasked, and would do so again: other workers are preferred for a while.
    Declined,
    /// The worker handed it back when asked to, because it had been queued there: the app is slower than
    /// estimated.
    Recalled,
    /// The client left, or it was never sent: this says nothing about the worker.
    Cancelled,
}

impl<L: Clone> Lease<L> {
    pub(super) fn new(
        pool: Arc<Pool<L>>,
        instance: u64,
        slot: Slot,
        isolation: Isolation,
        link: L,
        granted: Instant,
        socket: bool,
    ) -> Self {
        let (phase, ending) = (Phase::Unanswered(isolation), Ending::Cancelled);
        Self { pool, instance, granted, slot, phase, ending, socket, link }
    }

    /// Whether the exchange may become a WebSocket.
    pub(crate) fn allows_socket(&self) -> bool {
        self.socket
    }

    /// Turns the lease into one of a WebSocket: it no longer counts as a request. `None` if it doesn't allow one.
    pub(crate) fn into_socket(mut self) -> Option<SocketLease<L>> {
        let allowed = mem::take(&mut self.socket);
        allowed.then(|| SocketLease { pool: Arc::clone(&self.pool), instance: self.instance })
    }

    /// Marks the exchange as sent to the worker.
    pub(crate) fn sent(&mut self) {
        self.ending = Ending::Served;
    }

    /// The requesting shard's link to the worker.
    pub(crate) fn link(&self) -> &L {
        &self.link
    }

    /// The random number of the worker's process.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// When the lease was granted.
    pub(crate) fn granted(&self) -> Instant {
        self.granted
    }

    /// Whether the exchange starts at once at the worker.
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether the exchange has been queued at the worker for too long, assuming that it still is.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        now > self.granted + pace::MAX_WAIT
    }

    /// Whether the worker has made no progress for too long.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        let state = self.pool.state.lock();
        let member = state.members.iter().find(|it| it.instance == self.instance);
        member.is_some_and(|it| it.is_stalled(state.pace, now))
    }

    /// Whether this is an unanswered exclusive exchange, for which [`Self::expire_reservation`] must be called
    /// regularly.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.phase == Phase::Unanswered(Isolation::Exclusive)
    }

    /// Ends the reservation for this exclusive exchange if it has taken too long.
    pub(crate) fn expire_reservation(&self) {
        self.pool.expire_reservation();
    }

    /// Marks the response as started. Since its body may be endless, this exchange no longer excludes others,
    /// and exclusive exchanges may share the worker with it.
    pub(crate) fn response_started(&mut self) {
        let Phase::Unanswered(isolation) = mem::replace(&mut self.phase, Phase::Answered) else { return };
        self.pool.change(|state| {
            if let Some(member) = state.member(self.instance) {
                member.answered += 1;
            }
            state.settled(self.instance, isolation);
        });
    }

    /// Releases the lease: the worker handed the exchange back unasked.
    pub(crate) fn declined(self) {
        self.end(Ending::Declined);
    }

    /// Releases the lease: the worker handed the exchange back when asked to, so that another worker serves
    /// it.
    pub(crate) fn recalled(self) {
        self.end(Ending::Recalled);
    }

    /// Releases the lease: frontd no longer needs the exchange, or never sent it.
    pub(crate) fn cancelled(self) {
        self.end(Ending::Cancelled);
    }

    fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl<L: Clone> Drop for Lease<L> {
    fn drop(&mut self) {
        let Self { instance, granted, phase, ending, socket, .. } = *self;
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
            member.sockets -= usize::from(socket);
            match phase {
                Phase::Answered => member.answered -= 1,
                Phase::Unanswered(isolation) => state.settled(instance, isolation),
            }
        });
    }
}

impl<L: Clone> Drop for SocketLease<L> {
    fn drop(&mut self) {
        self.pool.change(|state| {
            if let Some(member) = state.member(self.instance) {
                member.sockets -= 1;
            }
        });
    }
}
