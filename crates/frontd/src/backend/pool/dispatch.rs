//! Grants the available capacity to waiting requests.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::lease::Lease;
use super::member::Member;
use super::queue::Grant;
use super::{Isolation, Pool, Purpose, State};

/// How long each step of a reservation may take. Most requests are answered by then, and a request that kills
/// its worker has mostly done so.
pub(super) const RESERVATION_LIMIT: Duration = Duration::from_secs(1);

/// How long all consecutive steps of a reservation may take.
pub(super) const RESERVATION_TOTAL: Duration = Duration::from_secs(5);

/// The one worker that is reserved for exclusive requests, so that they never occupy more of the app than
/// that.
///
/// ```text
///        a request waits, and no worker is idle                      granted
///   None ──────────────────────────────────────▶ Draining(w) ───────────────▶ Serving(w)
///   ▲  │ ◀── no request waits, or w is gone ──────────┘                        ▲ │
///   │  └── a request waits, and a worker is idle ────────────────────────────────┘ │
///   └── answered, ended, or too slow ──────────────────────────────────────────────┘
/// ```
///
/// Each step may take [`RESERVATION_LIMIT`], and all consecutive steps together [`RESERVATION_TOTAL`]: a worker that handles
/// a hundred requests at once leaves as many behind. If the worker is the app's only one, all steps together may take no longer
/// than one. After that, all exclusive requests share workers with others, so that nobody waits for a
/// request that may kill workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    None,
    /// The worker gets no requests until all it has are answered, then an exclusive one. If another worker
    /// becomes idle first, that one is used.
    Draining(u64, Instant),
    /// The worker has an exclusive request that isn't answered yet, and gets no other.
    Serving(u64, Instant),
}

impl Reservation {
    pub(super) fn is_of(self, instance: u64) -> bool {
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

    /// Whether the current step has taken too long.
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
    /// Removes all requests from the queue that a worker has room for. Must be called after each change of
    /// the state. The returned grants are to be delivered once the lock is released.
    pub(super) fn dispatch(&mut self, pool: &Arc<Pool<L>>) -> Vec<Grant<L>> {
        let mut grants = Vec::new();
        if self.queue.is_empty() && self.reservation == Reservation::None {
            return grants;
        }
        let now = Instant::now();
        if self.reservation.is_over(now) {
            (self.reservation, self.reserved_since) = (Reservation::None, None);
            self.queue.share();
        }
        self.dispatch_waiting(pool, Isolation::Exclusive, now, &mut grants);
        self.reserve(now);
        if self.reservation == Reservation::None {
            self.reserved_since = None;
        }
        self.dispatch_waiting(pool, Isolation::Shared, now, &mut grants);
        grants
    }

    /// Grants in ticket order. A request that finds no room finds none later in the same pass either.
    fn dispatch_waiting(
        &mut self,
        pool: &Arc<Pool<L>>,
        isolation: Isolation,
        now: Instant,
        grants: &mut Vec<Grant<L>>,
    ) {
        let mut next = self.queue.first(isolation);
        while let Some((ticket, shard, purpose)) = next {
            if !self.has_room(isolation, now) {
                return;
            }
            if let Some(lease) = self.lease(pool, shard, isolation, now, purpose) {
                grants.extend(self.queue.leave(ticket).map(|it| Grant::new(it, lease)));
            }
            next = self.queue.after(isolation, ticket);
        }
    }

    /// Leases the least busy worker with room. Among equals, the first one wins, since its caches are warm.
    /// Workers to avoid come last. A handshake gets the worker with the fewest WebSockets.
    pub(super) fn lease(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        isolation: Isolation,
        now: Instant,
        purpose: Purpose,
    ) -> Option<Lease<L>> {
        // If none of the workers takes WebSockets, any of them gets the handshake, whose lease then says so.
        let wants_socket = purpose == Purpose::WebSocket && self.takes_sockets();
        let Self { members, reservation, pace, .. } = self;
        if isolation == Isolation::Exclusive && reservation.is_serving() {
            return None;
        }
        let free = members.iter_mut().filter(|it| match isolation {
            Isolation::Shared => {
                it.has_room(*pace, now) && it.takes_from(shard) && !reservation.is_of(it.instance)
            }
            Isolation::Exclusive => it.has_exclusive_room() && it.takes_from(shard),
        });
        let chosen = if wants_socket {
            let free = free.filter(|it| it.has_socket_room());
            free.min_by_key(|it| (now < it.avoid_until, it.sockets, it.in_flight))
        } else {
            free.min_by_key(|it| (now < it.avoid_until, it.in_flight))
        };
        let lease = chosen?.lease(pool, shard, isolation, now, purpose)?;
        if isolation == Isolation::Exclusive {
            let end = self.step_end(now);
            self.reservation = Reservation::Serving(lease.instance(), end);
        }
        Some(lease)
    }

    /// Whether any worker has room, regardless of which shard is linked to it.
    pub(super) fn has_room(&self, isolation: Isolation, now: Instant) -> bool {
        let mut open = self.members.iter().filter(|it| it.is_open());
        let reservation = self.reservation;
        match isolation {
            Isolation::Shared => {
                open.any(|it| it.has_room(self.pace, now) && !reservation.is_of(it.instance))
            }
            Isolation::Exclusive => !reservation.is_serving() && open.any(Member::has_exclusive_room),
        }
    }

    /// Whether any of the workers takes WebSockets.
    fn takes_sockets(&self) -> bool {
        self.members.iter().any(|it| it.is_open() && it.socket_limit > 0)
    }

    /// Whether a handshake would wait until a WebSocket is closed, which may take hours.
    pub(super) fn is_full_of_sockets(&self) -> bool {
        let mut open = self.members.iter().filter(|it| it.is_open() && it.socket_limit > 0).peekable();
        open.peek().is_some() && !open.any(Member::has_socket_room)
    }

    /// A request of that worker was answered, or its exchange ended.
    pub(super) fn settled(&mut self, instance: u64, isolation: Isolation) {
        // An exclusive request that took too long may not be the one that the reservation is for now.
        if isolation == Isolation::Exclusive
            && matches!(self.reservation, Reservation::Serving(it, _) if it == instance)
        {
            let end = self.step_end(Instant::now());
            self.reservation = Reservation::Draining(instance, end);
        }
    }

    /// While an exclusive request waits, reserves one worker that it can get.
    fn reserve(&mut self, now: Instant) {
        let Self { members, queue, reservation, .. } = self;
        if reservation.is_serving() {
            return;
        }
        let chosen = queue.shards(Isolation::Exclusive).find_map(|shard| {
            let linked = members.iter().filter(|it| it.takes_from(shard) && it.answered < it.capacity);
            linked.min_by_key(|it| (!reservation.is_of(it.instance), it.is_blocked(), it.unanswered()))
        });
        let chosen = chosen.map(|it| it.instance);
        let end = reservation.end().unwrap_or_else(|| self.step_end(now));
        self.reservation = chosen.map_or(Reservation::None, |it| Reservation::Draining(it, end));
    }

    /// When the next step of a reservation ends.
    fn step_end(&mut self, now: Instant) -> Instant {
        let has_others = self.members.iter().filter(|it| it.is_open()).nth(1).is_some();
        let since = *self.reserved_since.get_or_insert(now);
        let end = (now + RESERVATION_LIMIT).min(since + RESERVATION_TOTAL);
        self.reservation.end().filter(|_| !has_others).unwrap_or(end)
    }
}
