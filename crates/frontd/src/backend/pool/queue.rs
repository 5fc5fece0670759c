//! The requests of an app that wait for a worker, in the order of arrival.

use std::collections::BTreeMap;
use std::mem;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lease::Lease;
use super::{EXCLUSIVE_TICK, Isolation, Pool, Purpose, Refused};

/// A request that is handed back may be tried again for at least this long, even if the queue limit is
/// shorter: with a limit of 0, no request is lost to a worker that ends.
const MIN_RETRY_TIME: Duration = Duration::from_secs(1);

/// How often a request may be given to workers. This is far more than a reload or a busy app causes. It stops
/// a request that is handed back every time from circulating until its queue time is over.
pub(super) const MAX_TRIES: u32 = 256;

/// A request's place in its app's queue, by order of arrival. It is kept over all tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A request's time and tries in the queue, over all its tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempts {
    limit: Duration,
    /// When it first asked for a worker, and its ticket.
    begun: Option<(Instant, Ticket)>,
    tries: u32,
    /// Whether it may join a full queue.
    admitted: bool,
    /// The worker that the request should go to if it has room.
    preferred: Option<NonZeroU64>,
    purpose: Purpose,
}

impl Attempts {
    /// Creates the state of a request that may wait for `limit` in total.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, begun: None, tries: 0, admitted: false, preferred: None, purpose: Purpose::Request }
    }

    /// Marks the request as a handshake.
    pub(crate) fn for_websocket(self) -> Self {
        Self { purpose: Purpose::WebSocket, ..self }
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Marks the request as admitted before its body was read: it is no longer refused because the queue is
    /// full.
    pub(crate) fn admitted(self) -> Self {
        Self { admitted: true, ..self }
    }

    /// Sets the worker that the request goes to if it has room at once, by its instance.
    pub(crate) fn prefer(&mut self, instance: Option<NonZeroU64>) {
        self.preferred = instance;
    }

    pub(super) fn preferred(&self) -> Option<NonZeroU64> {
        self.preferred
    }

    /// Excludes the time that a worker spent on the request before it was lost.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.limit = self.limit.saturating_add(time);
    }

    pub(super) fn is_new(&self) -> bool {
        self.begun.is_none() && !self.admitted
    }

    /// Starts a try. Returns the ticket, which is issued with the first try.
    ///
    /// # Errors
    ///
    /// Returns an error if the request came back too late or too often to be tried again.
    pub(super) fn begin<L: Clone>(&mut self, queue: &mut Queue<L>, now: Instant) -> Result<Ticket, Refused> {
        let (began, ticket) = *self.begun.get_or_insert_with(|| (now, queue.next_ticket()));
        if now.duration_since(began) > self.limit.max(MIN_RETRY_TIME) {
            return Err(Refused::TimedOut);
        }
        if self.tries == MAX_TRIES {
            return Err(Refused::HandedBack);
        }
        self.tries += 1;
        Ok(ticket)
    }

    #[cfg(test)]
    pub(super) fn pass(&mut self, time: Duration) {
        if let Some((began, _)) = &mut self.begun {
            *began -= time;
        }
    }

    /// When the request stops waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.and_then(|(began, _)| began.checked_add(self.limit))
    }
}

/// The waiting requests, by isolation.
#[derive(Debug)]
pub(super) struct Queue<L: Clone> {
    shared: BTreeMap<Ticket, Waiting<L>>,
    exclusive: BTreeMap<Ticket, Waiting<L>>,
    last_ticket: u64,
}

#[derive(Debug)]
pub(super) struct Waiting<L: Clone> {
    shard: usize,
    purpose: Purpose,
    pub(super) reply: oneshot::Sender<Lease<L>>,
}

impl<L: Clone> Queue<L> {
    pub(super) fn len(&self) -> usize {
        self.shared.len() + self.exclusive.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.exclusive.is_empty()
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    #[cfg(test)]
    pub(super) fn tickets(&self) -> u64 {
        self.last_ticket
    }

    /// Adds a request. The returned channel receives its lease.
    pub(super) fn join(
        &mut self,
        ticket: Ticket,
        shard: usize,
        isolation: Isolation,
        purpose: Purpose,
    ) -> oneshot::Receiver<Lease<L>> {
        let (reply, granted) = oneshot::channel();
        self.of(isolation).insert(ticket, Waiting { shard, purpose, reply });
        granted
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiting<L>> {
        self.shared.remove(&ticket).or_else(|| self.exclusive.remove(&ticket))
    }

    /// The first waiting request, its shard and its purpose.
    pub(super) fn first(&self, isolation: Isolation) -> Option<(Ticket, usize, Purpose)> {
        self.get(isolation).first_key_value().map(|(ticket, it)| (*ticket, it.shard, it.purpose))
    }

    /// The next waiting request after `ticket`, its shard and its purpose.
    pub(super) fn after(&self, isolation: Isolation, ticket: Ticket) -> Option<(Ticket, usize, Purpose)> {
        let mut rest = self.get(isolation).range((Bound::Excluded(ticket), Bound::Unbounded));
        rest.next().map(|(ticket, it)| (*ticket, it.shard, it.purpose))
    }

    /// Turns all exclusive requests into shared ones. They keep their places.
    pub(super) fn share(&mut self) {
        self.shared.append(&mut self.exclusive);
    }

    /// The shards of the waiting requests, in ticket order.
    pub(super) fn shards(&self, isolation: Isolation) -> impl Iterator<Item = usize> {
        self.get(isolation).values().map(|it| it.shard)
    }

    /// Removes all requests and returns them.
    pub(super) fn clear(&mut self) -> Self {
        let (shared, exclusive) = (mem::take(&mut self.shared), mem::take(&mut self.exclusive));
        Self { shared, exclusive, last_ticket: self.last_ticket }
    }

    fn get(&self, isolation: Isolation) -> &BTreeMap<Ticket, Waiting<L>> {
        match isolation {
            Isolation::Shared => &self.shared,
            Isolation::Exclusive => &self.exclusive,
        }
    }

    fn of(&mut self, isolation: Isolation) -> &mut BTreeMap<Ticket, Waiting<L>> {
        match isolation {
            Isolation::Shared => &mut self.shared,
            Isolation::Exclusive => &mut self.exclusive,
        }
    }
}

impl<L: Clone> Default for Queue<L> {
    fn default() -> Self {
        Self { shared: BTreeMap::new(), exclusive: BTreeMap::new(), last_ticket: 0 }
    }
}

/// A place in the queue, given up on drop.
pub(super) struct Wait<L: Clone> {
    pool: Arc<Pool<L>>,
    isolation: Isolation,
    ticket: Ticket,
    pub(super) granted: oneshot::Receiver<Lease<L>>,
}

impl<L: Clone> Wait<L> {
    pub(super) fn new(
        pool: Arc<Pool<L>>,
        isolation: Isolation,
        ticket: Ticket,
        granted: oneshot::Receiver<Lease<L>>,
    ) -> Self {
        Self { pool, isolation, ticket, granted }
    }

    /// Waits for the lease, forever if there is no `deadline`.
    pub(super) async fn until(mut self, deadline: Option<Instant>) -> Result<Lease<L>, Refused> {
        let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(left, self.lease()).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_dropped)) => Err(Refused::Failed),
            Err(_elapsed) => Err(Refused::TimedOut),
        }
    }

    async fn lease(&mut self) -> Result<Lease<L>, oneshot::error::RecvError> {
        while self.isolation == Isolation::Exclusive {
            match tokio::time::timeout(EXCLUSIVE_TICK, &mut self.granted).await {
                Ok(granted) => return granted,
                // Nothing else may happen in the pool meanwhile.
                Err(_elapsed) => self.pool.expire_reservation(),
            }
        }
        (&mut self.granted).await
    }
}

impl<L: Clone> Drop for Wait<L> {
    fn drop(&mut self) {
        self.pool.change(|state| state.queue.leave(self.ticket));
    }
}

/// A lease for a request that waited.
pub(super) struct Grant<L: Clone> {
    waiting: Waiting<L>,
    lease: Lease<L>,
}

impl<L: Clone> Grant<L> {
    pub(super) fn new(waiting: Waiting<L>, lease: Lease<L>) -> Self {
        Self { waiting, lease }
    }

    /// Must be called without the pool's lock: if the receiver is gone, the lease is dropped here, which
    /// takes the lock.
    pub(super) fn deliver(self) {
        let _taker_has_gone = self.waiting.reply.send(self.lease);
    }
}
