//! Selects the least busy worker of an app for a request, or queues the request.
//!
//! There is one pool per app, shared by all shards, so that a worker's capacity is counted once. The pool is
//! generic over the link type: it returns the link that the requesting shard has to the selected worker.

mod dispatch;
mod lease;
mod member;
mod preferred;
mod queue;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::dispatch::Reservation;
pub(crate) use self::lease::{Lease, SocketLease};
use self::member::Member;
pub(crate) use self::queue::Attempts;
use self::queue::{Grant, Queue, Wait};
pub(crate) use self::upload::Upload;
use self::upload::Uploads;
use super::pace::Pace;
use crate::observe::metrics::PoolStats;

/// How often an overdue reservation is checked for if nothing else happens in the pool.
pub(crate) const EXCLUSIVE_TICK: Duration = Duration::from_millis(250);

/// The workers of one app, their load, and the requests that wait for one.
///
/// **Invariant**: while a request waits, no worker that its shard is linked to has room for it. After each
/// change of the state, [`State::dispatch`] grants everything that can be granted.
///
/// A worker gets more requests than it has threads only when all others are busy too, and no more than the
/// app's pace allows. Requests that are queued at a stalled worker, or for too long, are recalled
/// (`backend::link`).
#[derive(Debug)]
pub(crate) struct Pool<L: Clone> {
    state: Mutex<State<L>>,
    streams_bodies: AtomicBool,
    uploads: Uploads,
}

#[derive(Debug)]
struct State<L: Clone> {
    members: Vec<Member<L>>,
    queue: Queue<L>,
    /// The worker that an exclusive request has or will get.
    reservation: Reservation,
    /// When the first of its consecutive steps began.
    reserved_since: Option<Instant>,
    pace: Pace,
    admission: Admission,
}

/// What the pool does with a request when no worker has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Queues up to this many requests.
    Queue(usize),
    /// The app has failed: refuses requests while there is no worker. If there is one, queues up to this
    /// many.
    Refuse(usize),
}

/// Whether a request may share its worker with other requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    Shared,
    /// Needs a worker that has no other unanswered request, and that gets none until this one is answered,
    /// because this request may have killed its last worker. Bounded in time: see [`Reservation`].
    Exclusive,
}

/// What a request wants of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Request,
    /// It asks for a WebSocket, which stays with the worker.
    WebSocket,
}

/// How much a worker takes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) requests: usize,
    /// WebSockets, which aren't among the requests.
    pub(crate) sockets: usize,
}

/// A worker without WebSockets.
impl From<usize> for Room {
    fn from(requests: usize) -> Self {
        Self { requests, sockets: 0 }
    }
}

/// Whether a request starts at once at its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A thread is free.
    Free,
    /// The request is queued behind others.
    Queued,
}

/// Why a request got no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the app's queue is full")]
    Full,
    #[error("too many request bodies are being received for the app")]
    TooManyUploads,
    #[error("too many request bodies are being received for the app from this address")]
    TooManyUploadsOfClient,
    #[error("no worker became free in time")]
    TimedOut,
    #[error("all workers have as many WebSockets as they take")]
    NoSocketRoom,
    #[error("workers kept handing the request back")]
    HandedBack,
    #[error("the app has no worker and failed to start one")]
    Failed,
}

impl<L: Clone> Pool<L> {
    pub(crate) fn new(admission: Admission) -> Arc<Self> {
        let state = State {
            members: Vec::new(),
            queue: Queue::default(),
            reservation: Reservation::None,
            reserved_since: None,
            pace: Pace::default(),
            admission,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            streams_bodies: AtomicBool::new(false),
            uploads: Uploads::new(),
        })
    }

    /// Whether the worker that was linked last takes requests whose body is still arriving. Others of the app's
    /// workers may differ during a reload.
    pub(crate) fn streams_bodies(&self) -> bool {
        self.streams_bodies.load(Ordering::Relaxed)
    }

    /// Records whether a worker that is being linked takes requests whose body is still arriving.
    pub(crate) fn set_streams_bodies(&self, streams: bool) {
        self.streams_bodies.store(streams, Ordering::Relaxed);
    }

    /// Leases the least busy worker that `shard` is linked to, or waits for one until the deadline of `attempts`.
    /// Requests are served in the order of their tickets.
    ///
    /// # Errors
    ///
    /// Returns an error if the queue is full, the wait takes too long, the app has failed, or the request was
    /// handed back too often.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        shard: usize,
        isolation: Isolation,
        attempts: &mut Attempts,
    ) -> Result<Lease<L>, Refused> {
        match self.begin(shard, isolation, attempts)? {
            Begin::Leased(lease) => Ok(lease),
            Begin::Wait(wait) => wait.until(attempts.deadline()).await,
        }
    }

    fn begin(
        self: &Arc<Self>,
        shard: usize,
        isolation: Isolation,
        attempts: &mut Attempts,
    ) -> Result<Begin<L>, Refused> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.reservation.is_over(now) {
            drop(state);
            self.expire_reservation();
            state = self.state.lock();
        }
        let is_new = attempts.is_new();
        // Requests that are leased at once also get a ticket: if such a request is handed back, it comes
        // before those that wait.
        let ticket = attempts.begin(&mut state.queue, now)?;
        let purpose = attempts.purpose();
        let preferred = attempts.preferred().filter(|_| isolation == Isolation::Shared);
        let preferred = preferred.and_then(|it| state.lease_preferred(self, shard, it, now, purpose));
        let begun = match preferred.or_else(|| state.lease(self, shard, isolation, now, purpose)) {
            Some(lease) => Begin::Leased(lease),
            None => {
                if purpose == Purpose::WebSocket && state.is_full_of_sockets() {
                    return Err(Refused::NoSocketRoom);
                }
                let size = state.queue_size()?;
                if is_new && state.queue.len() >= size {
                    return Err(Refused::Full);
                }
                let granted = state.queue.join(ticket, shard, isolation, purpose);
                Begin::Wait(Wait::new(Arc::clone(self), isolation, ticket, granted))
            }
        };
        if isolation == Isolation::Exclusive {
            // The reservation may have moved and left a worker to waiting requests.
            let grants = state.dispatch(self);
            drop(state);
            grants.into_iter().for_each(Grant::deliver);
        }
        Ok(begun)
    }

    /// Records that `shard` is linked to a worker.
    pub(crate) fn link(self: &Arc<Self>, shard: usize, instance: u64, room: impl Into<Room>, link: L) {
        self.change(|state| {
            let known = state.members.iter().position(|it| it.instance == instance);
            let at = known.unwrap_or_else(|| {
                state.members.push(Member::new(instance, room.into()));
                state.members.len() - 1
            });
            state.members[at].link(shard, link)
        });
    }

    /// Records that `shard` sends no further requests to this worker. Its leases continue.
    pub(crate) fn unlink(self: &Arc<Self>, shard: usize, instance: u64) {
        self.change(|state| state.member(instance)?.unlink(shard));
    }

    /// Records that the link of `shard` to a worker broke. The links of other shards may follow, so the
    /// worker gets no requests until it is linked again. Returns whether this is the first link to it that broke.
    pub(crate) fn lose(self: &Arc<Self>, shard: usize, instance: u64) -> bool {
        let mut is_first = false;
        self.change(|state| {
            let member = state.member(instance)?;
            is_first = !member.is_lost();
            member.lose(shard)
        });
        is_first
    }

    /// Records whether the event loop of a worker is blocked, as it has told `shard`. While it is, the worker gets no
    /// requests: it would hand them back, so they wait in the queue for whichever worker can start them first. As many
    /// may wait in addition as the blocked workers would have room for.
    pub(crate) fn set_blocked(self: &Arc<Self>, shard: usize, instance: u64, blocked: bool) {
        self.change(|state| {
            let Some(member) = state.member(instance) else { return };
            match blocked {
                true => member.block(shard),
                false => member.unblock(shard),
            }
        });
    }

    /// Changes what happens to requests that find no room.
    pub(crate) fn admit(self: &Arc<Self>, admission: Admission) {
        self.change(|state| state.admission = admission);
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.state.lock();
        let workers = || state.members.iter().filter(|it| it.takes_requests());
        PoolStats {
            workers: workers().count(),
            capacity: workers().map(|it| it.capacity).sum(),
            blocked: workers().filter(|it| it.is_blocked()).count(),
            in_flight: state.members.iter().map(|it| it.in_flight).sum(),
            waiting: state.queue.len(),
            sockets: state.members.iter().map(|it| it.sockets).sum(),
        }
    }

    /// Makes the current reservation this much older.
    #[cfg(test)]
    pub(crate) fn age_reservation(&self, time: Duration) {
        let mut state = self.state.lock();
        state.reservation.age(time);
        state.reserved_since = state.reserved_since.map(|it| it - time);
    }

    /// How many requests have asked for a worker so far.
    #[cfg(test)]
    pub(crate) fn requests_seen(&self) -> u64 {
        self.state.lock().queue.tickets()
    }

    /// Ends a reservation that has taken too long. Must be called regularly while an exclusive request waits
    /// or is unanswered.
    fn expire_reservation(self: &Arc<Self>) {
        self.change(|_| ());
    }

    /// Changes the state, then refuses and grants what that allows. Refusals, grants and the result of
    /// `change` are dropped or delivered without the lock, because dropping a lease takes it.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<L>) -> T) {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        state.remove_gone();
        let refused = state.refuse_if_failed();
        let grants = state.dispatch(self);
        drop(state);
        drop((changed, refused));
        grants.into_iter().for_each(Grant::deliver);
    }
}

impl<L: Clone> State<L> {
    fn member(&mut self, instance: u64) -> Option<&mut Member<L>> {
        self.members.iter_mut().find(|it| it.instance == instance)
    }

    fn has_workers(&self) -> bool {
        self.members.iter().any(Member::takes_requests)
    }

    /// Removes workers without links. One that still has leases stays: it may be linked again, and its load
    /// counts.
    fn remove_gone(&mut self) {
        self.members.retain(|it| it.takes_requests() || it.in_flight > 0 || it.sockets > 0);
    }

    /// How many requests may wait.
    ///
    /// # Errors
    ///
    /// Returns an error if the app has failed and has no worker.
    fn queue_size(&self) -> Result<usize, Refused> {
        match self.admission {
            Admission::Refuse(_) if !self.has_workers() => Err(Refused::Failed),
            Admission::Queue(size) | Admission::Refuse(size) => {
                Ok(size + self.members.iter().map(Member::blocked_room).sum::<usize>())
            }
        }
    }

    /// Empties the queue if its requests can never be served.
    fn refuse_if_failed(&mut self) -> Option<Queue<L>> {
        self.queue_size().is_err().then(|| self.queue.clear())
    }
}

enum Begin<L: Clone> {
    Leased(Lease<L>),
    Wait(Wait<L>),
}

#[cfg(test)]
mod tests;
