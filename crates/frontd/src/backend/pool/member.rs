//! One worker of an app, as the pool sees it.

use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::lease::Lease;
use super::{Isolation, Pool, Purpose, Room, Slot};
use crate::backend::pace::Pace;

/// How long a worker comes last after it has handed back a request for which it had a free thread, as far as
/// this frontd knows: another frontd keeps it busy.
const AVOID_TIME: Duration = Duration::from_secs(1);

/// Maximum number of requests queued at one worker, regardless of its threads. A worker hands back what
/// exceeds a thousand.
pub(super) const MAX_QUEUED: usize = 512;

#[derive(Debug)]
pub(super) struct Member<L: Clone> {
    pub(super) instance: u64,
    pub(super) capacity: usize,
    /// How many WebSockets it takes. 0: its interface has none.
    pub(super) socket_limit: usize,
    pub(super) in_flight: usize,
    /// Open WebSockets, and handshakes in flight.
    pub(super) sockets: usize,
    /// Those of `in_flight` whose response has started.
    pub(super) answered: usize,
    /// When an exchange last ended, or when an idle worker got one.
    pub(super) progress: Instant,
    /// Other workers are preferred until then.
    pub(super) avoid_until: Instant,
    /// The shards that the worker has told that its event loop is blocked. It tells them all, one after the other.
    blocked: Vec<usize>,
    /// A shard lost its link to the worker, and others may not have noticed yet: it gets no requests until it
    /// is linked again.
    lost: bool,
    /// Indexed by shard.
    links: Vec<Option<L>>,
}

impl<L: Clone> Member<L> {
    pub(super) fn new(instance: u64, room: Room) -> Self {
        let now = Instant::now();
        let links = Vec::new();
        Self {
            instance,
            capacity: room.requests,
            socket_limit: room.sockets,
            in_flight: 0,
            sockets: 0,
            answered: 0,
            progress: now,
            avoid_until: now,
            blocked: Vec::new(),
            lost: false,
            links,
        }
    }

    /// Adds a link, and returns the one that it replaces.
    pub(super) fn link(&mut self, shard: usize, link: L) -> Option<L> {
        self.lost = false;
        self.links.resize_with(self.links.len().max(shard + 1), || None);
        self.links[shard].replace(link)
    }

    pub(super) fn unlink(&mut self, shard: usize) -> Option<L> {
        self.unblock(shard);
        self.links.get_mut(shard).and_then(Option::take)
    }

    /// Whether a shard lost its link to the worker.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn lose(&mut self, shard: usize) -> Option<L> {
        self.lost = true;
        self.unlink(shard)
    }

    /// Whether the worker can take one more request: on a free thread, or in its queue unless it is stalled. While its
    /// event loop is blocked it can't, since it would only hand the request back.
    pub(super) fn has_room(&self, pace: Pace, now: Instant) -> bool {
        let may_wait =
            || self.in_flight < self.capacity + (self.capacity * pace.queue_depth()).min(MAX_QUEUED);
        !self.is_blocked() && (self.in_flight < self.capacity || may_wait() && !self.is_stalled(pace, now))
    }

    /// The worker has told `shard` that its event loop is blocked.
    pub(super) fn block(&mut self, shard: usize) {
        if self.is_linked(shard) && !self.blocked.contains(&shard) {
            self.blocked.push(shard);
        }
    }

    /// The worker has told `shard` that its event loop goes on.
    pub(super) fn unblock(&mut self, shard: usize) {
        self.blocked.retain(|it| *it != shard);
    }

    /// Whether the worker's event loop is blocked, as far as any shard knows.
    pub(super) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// How many requests wait for the event loop that would otherwise be with the worker.
    pub(super) fn blocked_room(&self) -> usize {
        if self.is_blocked() && self.is_open() { self.capacity.saturating_sub(self.in_flight) } else { 0 }
    }

    /// The number of exchanges whose response hasn't started.
    pub(super) fn unanswered(&self) -> usize {
        self.in_flight - self.answered
    }

    /// Whether the worker has a free thread and no unanswered request.
    pub(super) fn has_exclusive_room(&self) -> bool {
        self.unanswered() == 0 && self.in_flight < self.capacity && !self.is_blocked()
    }

    /// Whether the worker can get requests from `shard`.
    pub(super) fn takes_from(&self, shard: usize) -> bool {
        !self.lost && self.is_linked(shard)
    }

    /// Whether the worker can get requests from any shard.
    pub(super) fn is_open(&self) -> bool {
        !self.lost && self.takes_requests()
    }

    pub(super) fn is_linked(&self, shard: usize) -> bool {
        self.links.get(shard).is_some_and(Option::is_some)
    }

    /// Whether any shard is linked to the worker.
    pub(super) fn takes_requests(&self) -> bool {
        self.links.iter().any(Option::is_some)
    }

    pub(super) fn is_stalled(&self, pace: Pace, now: Instant) -> bool {
        now > self.progress + pace.stall_limit()
    }

    /// Whether the worker can take one more WebSocket.
    pub(super) fn has_socket_room(&self) -> bool {
        self.sockets < self.socket_limit
    }

    /// Prefers other workers for a while, because this one handed back a request. A blocked event loop is no reason: the
    /// worker says when it goes on.
    pub(super) fn avoid(&mut self, now: Instant) {
        if !self.is_blocked() {
            self.avoid_until = now + AVOID_TIME;
        }
    }

    /// Records that an exchange ended. Returns how long a thread was busy with it.
    pub(super) fn served(&mut self, granted: Instant, now: Instant) -> Duration {
        let since = now - granted.max(mem::replace(&mut self.progress, now));
        let threads = self.in_flight.min(self.capacity);
        since.saturating_mul(u32::try_from(threads).unwrap_or(u32::MAX)).min(now - granted)
    }

    pub(super) fn lease(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        isolation: Isolation,
        now: Instant,
        purpose: Purpose,
    ) -> Option<Lease<L>> {
        let link = self.links.get(shard)?.clone()?;
        if self.in_flight == 0 {
            self.progress = now;
        }
        let slot = if self.in_flight < self.capacity { Slot::Free } else { Slot::Queued };
        let socket = purpose == Purpose::WebSocket && self.socket_limit > 0;
        let lease = Lease::new(Arc::clone(pool), self.instance, slot, isolation, link, now, socket);
        self.in_flight += 1;
        self.sockets += usize::from(socket);
        Some(lease)
    }
}
