//! Gives waiting requests the room that there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease::{Grant, Lease};
use super::member::Member;
use super::{Mode, Pool, State};

/// For so long a worker may be reserved: most requests are answered by then, and what kills a worker mostly has.
pub(super) const RESERVED: Duration = Duration::from_secs(1);

/// How often it is looked whether a reservation takes too long, where nothing else happens.
pub(crate) const EXCLUSIVE_TICK: Duration = Duration::from_millis(250);

/// The one worker that is set aside for exclusive requests, so that they take no more of the app than that.
///
/// ```text
///        one waits, and every worker has one unanswered             it is granted
///   None ──────────────────────────────────────▶ Draining(w) ───────────────▶ Serving(w)
///   ▲  │ ◀── none waits any more, or w is gone ───────┘                        ▲ │
///   │  └── one comes or waits, and a worker is idle ─────────────────────────────┘ │
///   └── it has answered, or ended; it takes too long ──────────────────────────────┘
/// ```
///
/// Each step may take [`RESERVED`]. All steps in a row may not take longer where the worker is the app's only one. After
/// that, all exclusive requests share the workers with others: nobody waits for who is perhaps what kills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    None,
    /// That worker is given nothing more until all that it has is answered, and then an exclusive request. If another
    /// worker is idle before it, that one is taken.
    Draining(u64, Instant),
    /// That worker has an exclusive request, which has not answered yet, and is given nothing else.
    Serving(u64, Instant),
}

impl Reservation {
    fn is_of(self, instance: u64) -> bool {
        matches!(self, Self::Draining(it, _) | Self::Serving(it, _) if it == instance)
    }

    fn is_serving(self) -> bool {
        matches!(self, Self::Serving(..))
    }

    fn end(self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Draining(_, end) | Self::Serving(_, end) => Some(end),
        }
    }

    /// Whether it takes too long.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.end().is_some_and(|it| it <= now)
    }

    #[cfg(test)]
    pub(super) fn age(&mut self, time: Duration) {
        if let Self::Draining(_, end) | Self::Serving(_, end) = self {
            *end -= time;
        }
    }
}

impl<L: Clone> State<L> {
    /// Takes out of the queue all that a worker has room for. To be called after each change of the state; who is
    /// granted something is told once the lock is free.
    pub(super) fn dispatch(&mut self, pool: &Arc<Pool<L>>) -> Vec<Grant<L>> {
        let mut grants = Vec::new();
        if self.queue.is_empty() && self.reservation == Reservation::None {
            return grants;
        }
        let now = Instant::now();
        if self.reservation.is_over(now) {
            self.reservation = Reservation::None;
            self.queue.share();
        }
        self.dispatch_mode(pool, Mode::Exclusive, now, &mut grants);
        self.reserve(now);
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
                grants.extend(self.queue.leave(ticket).map(|it| Grant::new(it, lease)));
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
            Mode::Exclusive => it.has_exclusive_room() && it.takes_from(shard),
        });
        let lease = free.min_by_key(|it| (now < it.avoided, it.in_flight))?.lease(pool, shard, mode, now)?;
        if mode == Mode::Exclusive {
            self.reservation = Reservation::Serving(lease.instance(), self.step_end(now));
        }
        Some(lease)
    }

    /// Whether any worker has room, whichever shard is linked to it.
    pub(super) fn has_room(&self, mode: Mode, now: Instant) -> bool {
        let mut open = self.members.iter().filter(|it| it.is_open());
        let reservation = self.reservation;
        match mode {
            Mode::Shared => open.any(|it| it.has_room(self.pace, now) && !reservation.is_of(it.instance)),
            Mode::Exclusive => !reservation.is_serving() && open.any(Member::has_exclusive_room),
        }
    }

    /// A request of that worker has been answered, or has ended.
    pub(super) fn settled(&mut self, instance: u64, mode: Mode) {
        // One that took too long may not have been the last.
        if mode == Mode::Exclusive
            && matches!(self.reservation, Reservation::Serving(it, _) if it == instance)
        {
            self.reservation = Reservation::Draining(instance, self.step_end(Instant::now()));
        }
    }

    /// While an exclusive request waits, one worker that it can have is given nothing more; otherwise none is.
    fn reserve(&mut self, now: Instant) {
        let Self { members, queue, reservation, .. } = self;
        if reservation.is_serving() {
            return;
        }
        let chosen = queue.shards(Mode::Exclusive).find_map(|shard| {
            let linked = members.iter().filter(|it| it.takes_from(shard) && it.answered < it.capacity);
            linked.min_by_key(|it| (!reservation.is_of(it.instance), it.unanswered()))
        });
        let end = reservation.end().unwrap_or(now + RESERVED);
        *reservation = chosen.map_or(Reservation::None, |it| Reservation::Draining(it.instance, end));
    }

    /// When the next step of a reservation ends.
    fn step_end(&self, now: Instant) -> Instant {
        let has_others = self.members.iter().filter(|it| it.is_open()).nth(1).is_some();
        self.reservation.end().filter(|_| !has_others).unwrap_or(now + RESERVED)
    }
}
