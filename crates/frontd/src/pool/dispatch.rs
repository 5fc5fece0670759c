//! Gives waiting requests the room that there is.

use std::sync::Arc;
use std::time::Instant;

use super::lease::{Grant, Lease};
use super::{Mode, Pool, State};

/// The one worker that is set aside for exclusive requests, so that they take no more of the app than that.
///
/// ```text
///              one waits, and no worker is idle                it is granted
///   None ──────────────────────────────────────▶ Draining(w) ───────────────▶ Serving(w)
///   ▲  │ ◀── none waits any more, or w is gone ───────┘                        ▲ │
///   │  └── one comes or waits, and a worker is idle ─────────────────────────────┘ │
///   └── it has answered, or ended ──────────────────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    None,
    /// That worker is given nothing more until it is idle, and then an exclusive request. If another worker is idle
    /// before it, that one is taken.
    Draining(u64),
    /// That worker has an exclusive request, which has not answered yet, and is given nothing else.
    Serving(u64),
}

impl Reservation {
    fn is_of(self, instance: u64) -> bool {
        matches!(self, Self::Draining(it) | Self::Serving(it) if it == instance)
    }

    fn is_serving(self) -> bool {
        matches!(self, Self::Serving(_))
    }

    /// What that worker had has answered, or ended. An exclusive request is all that its worker has.
    pub(super) fn served_by(&mut self, instance: u64) {
        if *self == Self::Serving(instance) {
            *self = Self::None;
        }
    }
}

impl<L: Clone> State<L> {
    /// Takes out of the queue all that a worker has room for. To be called after each change of the state; who is
    /// granted something is told once the lock is free.
    pub(super) fn dispatch(&mut self, pool: &Arc<Pool<L>>) -> Vec<Grant<L>> {
        let mut grants = Vec::new();
        if self.queue.is_empty() {
            self.reserve();
            return grants;
        }
        let now = Instant::now();
        self.dispatch_mode(pool, Mode::Exclusive, now, &mut grants);
        self.reserve();
        self.dispatch_mode(pool, Mode::Shared, now, &mut grants);
        grants
    }

    /// Grants in the order of the tickets. What finds no room now finds none later in the same pass.
    fn dispatch_mode(&mut self, pool: &Arc<Pool<L>>, mode: Mode, now: Instant, grants: &mut Vec<Grant<L>>) {
        let mut next = self.queue.first(mode);
        while let Some((ticket, shard)) = next {
            if !self.has_room(mode, now) {
                return;
            }
            if let Some(lease) = self.lease(pool, shard, mode, now) {
                grants.extend(self.queue.leave(mode, ticket).map(|it| Grant::new(it, lease)));
            }
            next = self.queue.after(mode, ticket);
        }
    }

    /// Leases the worker with room that has the least to do; of several, the first, whose caches are warm. Those that
    /// are to be avoided come after all others.
    pub(super) fn lease(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        mode: Mode,
        now: Instant,
    ) -> Option<Lease<L>> {
        let Self { members, reservation, pace, .. } = self;
        if mode == Mode::Exclusive && reservation.is_serving() {
            return None;
        }
        let free = members.iter_mut().filter(|it| match mode {
            Mode::Shared => {
                it.has_room(*pace, now) && it.takes_from(shard) && !reservation.is_of(it.instance)
            }
            Mode::Exclusive => it.in_flight == 0 && it.takes_from(shard),
        });
        let lease = free.min_by_key(|it| (now < it.avoided, it.in_flight))?.lease(pool, shard, now)?;
        if mode == Mode::Exclusive {
            *reservation = Reservation::Serving(lease.instance());
        }
        Some(lease)
    }

    /// Whether any worker has room, whichever shard is linked to it.
    pub(super) fn has_room(&self, mode: Mode, now: Instant) -> bool {
        let mut open = self.members.iter().filter(|it| it.is_open());
        let reservation = self.reservation;
        match mode {
            Mode::Shared => open.any(|it| it.has_room(self.pace, now) && !reservation.is_of(it.instance)),
            Mode::Exclusive => !reservation.is_serving() && open.any(|it| it.in_flight == 0),
        }
    }

    /// While an exclusive request waits, one worker that it can have is given nothing more; otherwise none is.
    fn reserve(&mut self) {
        let Self { members, queue, reservation, .. } = self;
        if reservation.is_serving() {
            return;
        }
        let chosen = queue.shards(Mode::Exclusive).find_map(|shard| {
            let linked = members.iter().filter(|it| it.takes_from(shard));
            linked.min_by_key(|it| (!reservation.is_of(it.instance), it.in_flight))
        });
        *reservation = chosen.map_or(Reservation::None, |it| Reservation::Draining(it.instance));
    }
}
