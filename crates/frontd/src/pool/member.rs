//! One worker of an app, as the pool knows it.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease::Lease;
use super::{Mode, Pool};
use crate::pace::Pace;

/// How long a worker is the last to be chosen that has handed back what it had a free thread for, as far as is known
/// here: another frontd keeps it busy.
const AVOIDED: Duration = Duration::from_secs(1);

/// Requests that may wait at one worker in all, whatever its threads: it hands back what is beyond a thousand.
pub(super) const MOST_AHEAD: usize = 512;

#[derive(Debug)]
pub(super) struct Member<L: Clone> {
    pub(super) instance: u64,
    pub(super) capacity: usize,
    pub(super) in_flight: usize,
    /// Those of them whose response has begun.
    pub(super) answered: usize,
    /// When its last exchange ended, or it was given one after it had none.
    pub(super) progress: Instant,
    /// Others are chosen before it until then.
    pub(super) avoided: Instant,
    /// A shard has found it gone, which others have yet to find: it is given nothing until it is linked to again.
    lost: bool,
    /// By shard.
    links: Vec<Option<L>>,
}

impl<L: Clone> Member<L> {
    pub(super) fn new(instance: u64, capacity: usize) -> Self {
        let now = Instant::now();
        let links = Vec::new();
        Self {
            instance,
            capacity,
            in_flight: 0,
            answered: 0,
            progress: now,
            avoided: now,
            lost: false,
            links,
        }
    }

    /// The link that this one replaces, if there was one.
    pub(super) fn link(&mut self, shard: usize, link: L) -> Option<L> {
        self.lost = false;
        self.links.resize_with(self.links.len().max(shard + 1), || None);
        self.links[shard].replace(link)
    }

    pub(super) fn unlink(&mut self, shard: usize) -> Option<L> {
        self.links.get_mut(shard).and_then(Option::take)
    }

    pub(super) fn lose(&mut self, shard: usize) -> Option<L> {
        self.lost = true;
        self.unlink(shard)
    }

    /// Whether it has room for one more: at a free thread, or to wait there unless it is held up.
    pub(super) fn has_room(&self, pace: Pace, now: Instant) -> bool {
        let may_wait = || self.in_flight < self.capacity + (self.capacity * pace.ahead()).min(MOST_AHEAD);
        self.in_flight < self.capacity || may_wait() && !self.is_held_up(pace, now)
    }

    /// Those whose response has not begun.
    pub(super) fn unanswered(&self) -> usize {
        self.in_flight - self.answered
    }

    /// Whether it has a free thread, and nothing that is not answered.
    pub(super) fn has_exclusive_room(&self) -> bool {
        self.unanswered() == 0 && self.in_flight < self.capacity
    }

    /// Whether it can be given what comes by `shard`.
    pub(super) fn takes_from(&self, shard: usize) -> bool {
        !self.lost && self.is_linked(shard)
    }

    /// Whether it can be given what comes by any shard.
    pub(super) fn is_open(&self) -> bool {
        !self.lost && self.takes_requests()
    }

    pub(super) fn is_linked(&self, shard: usize) -> bool {
        self.links.get(shard).is_some_and(Option::is_some)
    }

    /// Whether any shard is linked to it.
    pub(super) fn takes_requests(&self) -> bool {
        self.links.iter().any(Option::is_some)
    }

    pub(super) fn is_held_up(&self, pace: Pace, now: Instant) -> bool {
        now > self.progress + pace.patience()
    }

    /// It handed back what it was given: for a while others are chosen before it.
    pub(super) fn avoid(&mut self, now: Instant) {
        self.avoided = now + AVOIDED;
    }

    /// One was served; tells for how long a thread was at it.
    pub(super) fn served(&mut self, granted: Instant, now: Instant) -> Duration {
        let since = now - granted.max(mem::replace(&mut self.progress, now));
        let threads = self.in_flight.min(self.capacity);
        since.saturating_mul(u32::try_from(threads).unwrap_or(u32::MAX)).min(now - granted)
    }

    pub(super) fn lease(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        mode: Mode,
        now: Instant,
    ) -> Option<Lease<L>> {
        let link = self.links.get(shard)?.clone()?;
        if self.in_flight == 0 {
            self.progress = now;
        }
        let lease = Lease::new(Arc::clone(pool), self, mode, link, now);
        self.in_flight += 1;
        Some(lease)
    }
}
