//! Chooses a worker for one request of an app, the least busy one, or lets the request wait for one.
//!
//! One pool an app, shared by all shards, so that a worker's room is counted once. It knows nothing of what
//! a link is: it hands out the one that the asking shard has to the chosen worker.

mod dispatch;
mod lease;
mod member;
mod queue;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub(crate) use self::dispatch::EXCLUSIVE_TICK;
use self::dispatch::Reservation;
use self::lease::Grant;
pub(crate) use self::lease::Lease;
use self::member::Member;
pub(crate) use self::queue::Turn;
use self::queue::{Queue, Wait};
use self::upload::Uploads;
use crate::pace::Pace;

/// The workers of one app, what each is doing, and who waits for one.
///
/// **Invariant**: while a request waits, no worker that its shard is linked to has room for it. Whatever changes
/// the state calls [`State::dispatch`], which grants all that can be granted.
///
/// A worker is given more than it has threads only when every other one is busy too, and only as far as the
/// app's pace says. What waits at one that is held up, or waits for too long, is recalled (`upstream::link`).
#[derive(Debug)]
pub(crate) struct Pool<L: Clone> {
    state: Mutex<State<L>>,
    uploads: Uploads,
}

#[derive(Debug)]
struct State<L: Clone> {
    members: Vec<Member<L>>,
    queue: Queue<L>,
    /// The worker that an exclusive request has, or will have.
    reservation: Reservation,
    pace: Pace,
    admission: Admission,
}

/// What the pool does with a request that no worker has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Lets as many wait.
    Queue(usize),
    /// Refuses it for as long as there is no worker: the app has failed. While there is one, lets as many wait.
    Refuse(usize),
}

/// Whether a request may be at a worker together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    /// It needs a worker where all else has been answered, and which is given nothing else until this is: it may be what
    /// ended its last worker. Not for long: see [`Reservation`].
    Exclusive,
}

/// Where an exchange is at its worker when it is given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A thread is free for it.
    Free,
    /// Others are before it.
    Ahead,
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
    #[error("no worker had room in time")]
    TimedOut,
    #[error("workers handed the request back, again and again")]
    HandedBack,
    #[error("the app has no worker and failed to start one")]
    Failed,
}

/// What a look at the pool is for, as metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
}

impl<L: Clone> Pool<L> {
    pub(crate) fn new(admission: Admission) -> Arc<Self> {
        let state = State {
            members: Vec::new(),
            queue: Queue::default(),
            reservation: Reservation::None,
            pace: Pace::default(),
            admission,
        };
        Arc::new(Self { state: Mutex::new(state), uploads: Uploads::new() })
    }

    /// Leases the least busy worker that `shard` is linked to, or waits for one in the order of the tickets until
    /// the time of `turn` is over.
    ///
    /// # Errors
    /// When the queue is full, the wait too long, the app failed, or the request was handed back too often.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        shard: usize,
        mode: Mode,
        turn: &mut Turn,
    ) -> Result<Lease<L>, Refused> {
        match self.begin(shard, mode, turn)? {
            Begin::Leased(lease) => Ok(lease),
            Begin::Wait(wait) => wait.until(turn.deadline()).await,
        }
    }

    fn begin(self: &Arc<Self>, shard: usize, mode: Mode, turn: &mut Turn) -> Result<Begin<L>, Refused> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.reservation.is_over(now) {
            drop(state);
            self.look();
            state = self.state.lock();
        }
        let is_new = turn.is_new();
        // Also of one that is leased at once: if it is handed back, it came before those that wait.
        let ticket = turn.begin(&mut state.queue, now)?;
        let begun = match state.lease(self, shard, mode, now) {
            Some(lease) => Begin::Leased(lease),
            None => {
                let size = state.queue_size()?;
                if is_new && state.queue.len() >= size {
                    return Err(Refused::Full);
                }
                let granted = state.queue.join(ticket, shard, mode);
                Begin::Wait(Wait::new(Arc::clone(self), mode, ticket, granted))
            }
        };
        if mode == Mode::Exclusive {
            // The reservation may have moved, and left a worker to those that wait.
            let grants = state.dispatch(self);
            drop(state);
            grants.into_iter().for_each(Grant::deliver);
        }
        Ok(begun)
    }

    /// `shard` is linked to a worker from here on.
    pub(crate) fn link(self: &Arc<Self>, shard: usize, instance: u64, capacity: usize, link: L) {
        self.change(|state| {
            let known = state.members.iter().position(|it| it.instance == instance);
            let at = known.unwrap_or_else(|| {
                state.members.push(Member::new(instance, capacity));
                state.members.len() - 1
            });
            state.members[at].link(shard, link)
        });
    }

    /// `shard` gives nothing more to that worker. Its leases go on.
    pub(crate) fn unlink(self: &Arc<Self>, shard: usize, instance: u64) {
        self.change(|state| state.member(instance)?.unlink(shard));
    }

    /// The link of `shard` to a worker broke, and so may those of the others soon: the worker is given nothing more
    /// before it is linked to again.
    pub(crate) fn lose(self: &Arc<Self>, shard: usize, instance: u64) {
        self.change(|state| state.member(instance)?.lose(shard));
    }

    /// Changes what is done with requests that find no room.
    pub(crate) fn admit(self: &Arc<Self>, admission: Admission) {
        self.change(|state| state.admission = admission);
    }

    pub(crate) fn census(&self) -> Census {
        let state = self.state.lock();
        let workers = || state.members.iter().filter(|it| it.takes_requests());
        Census {
            workers: workers().count(),
            capacity: workers().map(|it| it.capacity).sum(),
            in_flight: state.members.iter().map(|it| it.in_flight).sum(),
            waiting: state.queue.len(),
        }
    }

    /// As if the worker that is reserved had been for so much longer.
    #[cfg(test)]
    pub(crate) fn age_reservation(&self, time: std::time::Duration) {
        self.state.lock().reservation.age(time);
    }

    /// How many requests have asked for a worker.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.state.lock().queue.tickets()
    }

    /// Ends a reservation that takes too long. To be called from time to time while an exclusive request waits, or has not
    /// been answered.
    fn look(self: &Arc<Self>) {
        self.change(|_| ());
    }

    /// Changes the state, then refuses and grants all that can be after that. Refusals, grants and what `change`
    /// returns are let go of without the lock: dropping a lease takes it.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<L>) -> T) {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        state.forget_gone();
        let refused = state.refuse_if_hopeless();
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

    /// One that is linked to no more stays until its last lease has ended: it may be linked to again, and what
    /// it is still busy with counts.
    fn forget_gone(&mut self) {
        self.members.retain(|it| it.takes_requests() || it.in_flight > 0);
    }

    /// How many requests may wait.
    ///
    /// # Errors
    /// When none may: the app has failed, and has no worker.
    fn queue_size(&self) -> Result<usize, Refused> {
        match self.admission {
            Admission::Refuse(_) if !self.has_workers() => Err(Refused::Failed),
            Admission::Queue(size) | Admission::Refuse(size) => Ok(size),
        }
    }

    /// Takes out of the queue those that nobody will ever serve.
    fn refuse_if_hopeless(&mut self) -> Queue<L> {
        if self.queue_size().is_err() { self.queue.clear() } else { Queue::default() }
    }
}

enum Begin<L: Clone> {
    Leased(Lease<L>),
    Wait(Wait<L>),
}

#[cfg(test)]
mod tests;
