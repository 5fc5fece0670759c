//! The requests of an app that wait for a worker, in the order of their arrival.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::dispatch::EXCLUSIVE_TICK;
use super::{Lease, Mode, Pool, Refused};

/// What a worker hands back may go to another one for so long, whatever the limit of the queue: a limit of 0 loses
/// nothing to a worker that ends.
const COMES_BACK: Duration = Duration::from_secs(1);

/// A request is given to workers so often in all. Far more than a reload or a busy app takes: one that is handed back
/// each time would go round until its time in the queue is over.
pub(super) const MOST_TRIES: u32 = 256;

/// The place of a request in its app's queue, by the order of arrival. Kept when it has to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// One request's way through the queue, over all its tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    limit: Duration,
    /// When it first asked for a worker, and its place since then.
    begun: Option<(Instant, Ticket)>,
    tries: u32,
    /// Whether it is let in even if the queue is full.
    admitted: bool,
}

impl Turn {
    /// Of a request that may wait for `limit` in all.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, begun: None, tries: 0, admitted: false }
    }

    /// It was admitted before its body was read: it is refused no more because the queue is full.
    pub(crate) fn admitted(self) -> Self {
        Self { admitted: true, ..self }
    }

    /// A worker was at the request for so long before it was lost: that was no wait.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.limit = self.limit.saturating_add(time);
    }

    pub(super) fn is_new(&self) -> bool {
        self.begun.is_none() && !self.admitted
    }

    /// Its place, which it gets with the first try.
    ///
    /// # Errors
    /// When it came back too late, or too often, to be tried again.
    pub(super) fn begin<L: Clone>(&mut self, queue: &mut Queue<L>, now: Instant) -> Result<Ticket, Refused> {
        let (began, ticket) = *self.begun.get_or_insert_with(|| (now, queue.next_ticket()));
        if now.duration_since(began) > self.limit.max(COMES_BACK) {
            return Err(Refused::TimedOut);
        }
        if self.tries == MOST_TRIES {
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

    /// When it waits no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.and_then(|(began, _)| began.checked_add(self.limit))
    }
}

/// Those that wait, by mode.
#[derive(Debug)]
pub(super) struct Queue<L: Clone> {
    shared: BTreeMap<Ticket, Waiting<L>>,
    exclusive: BTreeMap<Ticket, Waiting<L>>,
    last_ticket: u64,
}

#[derive(Debug)]
pub(super) struct Waiting<L: Clone> {
    shard: usize,
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

    /// Where the lease comes that it waits for.
    pub(super) fn join(&mut self, ticket: Ticket, shard: usize, mode: Mode) -> oneshot::Receiver<Lease<L>> {
        let (reply, granted) = oneshot::channel();
        self.of(mode).insert(ticket, Waiting { shard, reply });
        granted
    }

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiting<L>> {
        self.shared.remove(&ticket).or_else(|| self.exclusive.remove(&ticket))
    }

    /// The first that waits, and by which shard.
    pub(super) fn first(&self, mode: Mode) -> Option<(Ticket, usize)> {
        self.get(mode).first_key_value().map(|(ticket, it)| (*ticket, it.shard))
    }

    /// The next one after that.
    pub(super) fn after(&self, mode: Mode, ticket: Ticket) -> Option<(Ticket, usize)> {
        let mut rest = self.get(mode).range((Bound::Excluded(ticket), Bound::Unbounded));
        rest.next().map(|(ticket, it)| (*ticket, it.shard))
    }

    /// Those that wait exclusively go on as others do, at their places.
    pub(super) fn share(&mut self) {
        self.shared.append(&mut self.exclusive);
    }

    /// By which shards they wait, the first first.
    pub(super) fn shards(&self, mode: Mode) -> impl Iterator<Item = usize> {
        self.get(mode).values().map(|it| it.shard)
    }

    /// All that wait, who wait no more.
    pub(super) fn clear(&mut self) -> Self {
        let (shared, exclusive) = (mem::take(&mut self.shared), mem::take(&mut self.exclusive));
        Self { shared, exclusive, last_ticket: self.last_ticket }
    }

    fn get(&self, mode: Mode) -> &BTreeMap<Ticket, Waiting<L>> {
        match mode {
            Mode::Shared => &self.shared,
            Mode::Exclusive => &self.exclusive,
        }
    }

    fn of(&mut self, mode: Mode) -> &mut BTreeMap<Ticket, Waiting<L>> {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }
}

impl<L: Clone> Default for Queue<L> {
    fn default() -> Self {
        Self { shared: BTreeMap::new(), exclusive: BTreeMap::new(), last_ticket: 0 }
    }
}

/// A place in the queue, given up when it is dropped.
pub(super) struct Wait<L: Clone> {
    pool: Arc<Pool<L>>,
    mode: Mode,
    ticket: Ticket,
    pub(super) granted: oneshot::Receiver<Lease<L>>,
}

impl<L: Clone> Wait<L> {
    pub(super) fn new(
        pool: Arc<Pool<L>>,
        mode: Mode,
        ticket: Ticket,
        granted: oneshot::Receiver<Lease<L>>,
    ) -> Self {
        Self { pool, mode, ticket, granted }
    }

    /// Waits for as long as it takes where there is no `deadline`.
    pub(super) async fn until(mut self, deadline: Option<Instant>) -> Result<Lease<L>, Refused> {
        let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(left, self.lease()).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_dropped)) => Err(Refused::Failed),
            Err(_elapsed) => Err(Refused::TimedOut),
        }
    }

    async fn lease(&mut self) -> Result<Lease<L>, oneshot::error::RecvError> {
        while self.mode == Mode::Exclusive {
            match tokio::time::timeout(EXCLUSIVE_TICK, &mut self.granted).await {
                Ok(granted) => return granted,
                // Nothing else may happen meanwhile.
                Err(_elapsed) => self.pool.look(),
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
