//! Chooses the worker for one request of an app, the least busy one, or lets the request wait for one.
//!
//! One pool an app, shared by all shards, so that a worker's room is counted once. It knows nothing of what
//! a link is: it hands out the one that the asking shard has to the chosen worker.

mod alone;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::alone::{Company, Tenancy};
use crate::pace::{self, Pace};

/// The workers of one app, what each is doing, and who waits for one.
///
/// **Invariant**: while a request waits, no worker that its shard is linked to has room for it.
///
/// A worker is given more than it has threads only when every other one is busy too, and only as far as the
/// app's pace says. What waits at one that is held up, or waits for too long, is recalled (`upstream::link`).
#[derive(Debug)]
pub(crate) struct Pool<L: Clone> {
    state: Mutex<State<L>>,
}

#[derive(Debug)]
struct State<L: Clone> {
    members: Vec<Member<L>>,
    waiting: BTreeMap<Ticket, Waiting<L>>,
    /// How many of them are to be alone.
    waiting_alone: usize,
    last_ticket: u64,
    pace: Pace,
    admission: Admission,
}

/// What the pool does with a request that no worker has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Lets as many wait.
    Queue(usize),
    /// Refuses it for as long as there is no worker: the app has failed.
    Refuse,
}

/// The place of a request in its app's queue, by the order of arrival. Kept when it has to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Member<L: Clone> {
    instance: u64,
    capacity: usize,
    in_flight: usize,
    tenancy: Tenancy,
    /// When its last exchange ended, or it was given one after it had none.
    progress: Instant,
    /// Others are chosen before it until then.
    avoided: Instant,
    /// By shard.
    links: Vec<Option<L>>,
}

#[derive(Debug)]
struct Waiting<L: Clone> {
    shard: usize,
    company: Company,
    reply: oneshot::Sender<Lease<L>>,
}

/// Room for one exchange at one worker, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<L: Clone> {
    pool: Arc<Pool<L>>,
    instance: u64,
    granted: Instant,
    place: Place,
    ending: Ending,
    link: L,
}

/// What a worker did with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Served,
    /// Nothing, which tells neither how quick it is nor that it gets on.
    HandedBack,
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
    #[error("no worker had room in time")]
    TimedOut,
    #[error("the app has no worker and failed to start one")]
    Failed,
}

/// How long a worker is the last to be chosen that has handed back what it had a free thread for, as far as is known
/// here: another frontd keeps it busy.
const AVOIDED: Duration = Duration::from_secs(1);

/// Requests that may wait at one worker in all, whatever its threads: it hands back what is beyond a thousand.
const MOST_AHEAD: usize = 512;

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
            waiting: BTreeMap::new(),
            waiting_alone: 0,
            last_ticket: 0,
            pace: Pace::default(),
            admission,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Leases the least busy worker that `shard` is linked to, or waits for one in the order of the tickets,
    /// for `patience` at most. `ticket` is that of an earlier try.
    ///
    /// # Errors
    /// When the queue is full, the wait too long, or the app failed.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        shard: usize,
        ticket: &mut Option<Ticket>,
        patience: Duration,
    ) -> Result<Lease<L>, Refused> {
        match self.begin(shard, Company::Others, ticket)? {
            Begin::Leased(lease) => Ok(lease),
            Begin::Wait(wait) => wait.within(patience).await,
        }
    }

    fn begin(
        self: &Arc<Self>,
        shard: usize,
        company: Company,
        ticket: &mut Option<Ticket>,
    ) -> Result<Begin<L>, Refused> {
        let mut state = self.state.lock();
        let is_new = ticket.is_none();
        // Also of one that is leased at once: if it is handed back, it came before those that wait.
        let ticket = *ticket.get_or_insert_with(|| state.next_ticket());
        if let Some(lease) = state.lease_least_busy(self, shard, company) {
            return Ok(Begin::Leased(lease));
        }
        match state.admission {
            Admission::Refuse if !state.has_workers() => return Err(Refused::Failed),
            Admission::Queue(size) if is_new && state.waiting.len() >= size => return Err(Refused::Full),
            _ => {}
        }
        let (reply, granted) = oneshot::channel();
        state.waiting.insert(ticket, Waiting { shard, company, reply });
        if company == Company::Nobody {
            state.waiting_alone += 1;
            state.keep_one(self);
        }
        Ok(Begin::Wait(Wait { pool: Arc::clone(self), ticket, granted }))
    }

    /// `shard` is linked to a worker from here on.
    pub(crate) fn link(self: &Arc<Self>, shard: usize, instance: u64, capacity: usize, link: L) {
        let mut state = self.state.lock();
        let known = state.members.iter().position(|it| it.instance == instance);
        let at = known.unwrap_or_else(|| {
            state.members.push(Member::new(instance, capacity));
            state.members.len() - 1
        });
        let Member { links, tenancy, .. } = &mut state.members[at];
        tenancy.linked();
        links.resize_with(links.len().max(shard + 1), || None);
        links[shard] = Some(link);
        let grants = state.grants(self, instance);
        drop(state);
        grants.into_iter().for_each(Grant::deliver);
    }

    /// `shard` gives nothing more to that worker. Its leases go on.
    pub(crate) fn unlink(self: &Arc<Self>, shard: usize, instance: u64) {
        let mut state = self.state.lock();
        let Some(member) = state.members.iter_mut().find(|it| it.instance == instance) else { return };
        let gone = member.links.get_mut(shard).and_then(Option::take);
        member.keep_only_if_linked();
        state.forget_gone();
        let refused = state.refuse_if_hopeless();
        let grants = state.keep_one(self);
        drop(state);
        drop((gone, refused));
        grants.into_iter().for_each(Grant::deliver);
    }

    /// Changes what is done with requests that find no room.
    pub(crate) fn admit(&self, admission: Admission) {
        let mut state = self.state.lock();
        state.admission = admission;
        let refused = state.refuse_if_hopeless();
        drop(state);
        drop(refused);
    }

    pub(crate) fn census(&self) -> Census {
        let state = self.state.lock();
        let workers = || state.members.iter().filter(|it| it.takes_requests());
        Census {
            workers: workers().count(),
            capacity: workers().map(|it| it.capacity).sum(),
            in_flight: state.members.iter().map(|it| it.in_flight).sum(),
            waiting: state.waiting.len(),
        }
    }

    fn release(self: &Arc<Self>, instance: u64, granted: Instant, ending: Ending) {
        let mut state = self.state.lock();
        let State { members, pace, .. } = &mut *state;
        let Some(member) = members.iter_mut().find(|it| it.instance == instance) else { return };
        if ending == Ending::Served {
            pace.served(member.served(granted, Instant::now()));
        }
        member.in_flight -= 1;
        member.tenancy.end();
        state.forget_gone();
        let grants = state.grants(self, instance);
        drop(state);
        grants.into_iter().for_each(Grant::deliver);
    }
}

impl<L: Clone> State<L> {
    /// The member with room that has the least to do; of several, the first, whose caches are warm. Those that are
    /// to be avoided come after all others.
    fn lease_least_busy(&mut self, pool: &Arc<Pool<L>>, shard: usize, company: Company) -> Option<Lease<L>> {
        if company == Company::Nobody && self.one_is_alone() {
            return None;
        }
        let (pace, now) = (self.pace, Instant::now());
        let free = self.members.iter_mut().filter(|it| it.takes(company, pace, now) && it.is_linked(shard));
        free.min_by_key(|it| (now < it.avoided, it.in_flight))?.lease(pool, shard, company, now)
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Takes out of the queue all that `instance` has room for: more than one when the app was found quicker.
    fn grants(&mut self, pool: &Arc<Pool<L>>, instance: u64) -> Vec<Grant<L>> {
        let alone = self.waiting_alone;
        let mut grants: Vec<_> = std::iter::from_fn(|| self.grant(pool, instance)).collect();
        if alone > 0 {
            grants.extend(self.keep_one(pool));
        }
        grants
    }

    /// Takes out of the queue the first that `instance` has room for.
    fn grant(&mut self, pool: &Arc<Pool<L>>, instance: u64) -> Option<Grant<L>> {
        if self.waiting.is_empty() {
            return None;
        }
        let (pace, now) = (self.pace, Instant::now());
        let one_is_alone = self.waiting_alone > 0 && self.one_is_alone();
        let member = self.members.iter_mut().find(|it| it.instance == instance && it.has_room(pace, now))?;
        let fits = |it: &Waiting<L>| {
            let may_be_alone = it.company == Company::Others || !one_is_alone;
            may_be_alone && member.is_linked(it.shard) && member.takes(it.company, pace, now)
        };
        let (&ticket, _) = self.waiting.iter().find(|(_, it)| fits(it))?;
        let Waiting { shard, company, reply } = self.waiting.remove(&ticket)?;
        let lease = member.lease(pool, shard, company, now)?;
        self.waiting_alone -= usize::from(company == Company::Nobody);
        Some(Grant { reply, lease })
    }

    fn has_workers(&self) -> bool {
        self.members.iter().any(Member::takes_requests)
    }

    /// One that is linked to no more stays until its last lease has ended: it may be linked to again, and what
    /// it is still busy with counts.
    fn forget_gone(&mut self) {
        self.members.retain(|it| it.takes_requests() || it.in_flight > 0);
    }

    fn refuse_if_hopeless(&mut self) -> BTreeMap<Ticket, Waiting<L>> {
        match self.admission {
            Admission::Refuse if !self.has_workers() => {
                self.waiting_alone = 0;
                self.members.iter_mut().for_each(Member::keep_only_if_linked);
                mem::take(&mut self.waiting)
            }
            _ => BTreeMap::new(),
        }
    }
}

impl<L: Clone> Member<L> {
    fn new(instance: u64, capacity: usize) -> Self {
        let (tenancy, now) = (Tenancy::Shared, Instant::now());
        Self { instance, capacity, in_flight: 0, tenancy, progress: now, avoided: now, links: Vec::new() }
    }

    /// Whether it can be given one more: to a free thread, or to wait there unless it is held up.
    fn has_room(&self, pace: Pace, now: Instant) -> bool {
        let may_wait = || self.in_flight < self.capacity + (self.capacity * pace.ahead()).min(MOST_AHEAD);
        match self.tenancy {
            Tenancy::Shared => self.in_flight < self.capacity || may_wait() && !self.is_held_up(pace, now),
            Tenancy::Kept => self.in_flight == 0,
            Tenancy::Alone | Tenancy::Lost => false,
        }
    }

    /// One was served; tells for how long a thread was at it.
    fn served(&mut self, granted: Instant, now: Instant) -> Duration {
        let since = now - granted.max(mem::replace(&mut self.progress, now));
        let threads = self.in_flight.min(self.capacity);
        since.saturating_mul(u32::try_from(threads).unwrap_or(u32::MAX)).min(now - granted)
    }

    fn is_held_up(&self, pace: Pace, now: Instant) -> bool {
        now > self.progress + pace.patience()
    }

    /// Whether any shard is linked to it.
    fn takes_requests(&self) -> bool {
        self.links.iter().any(Option::is_some)
    }

    fn is_linked(&self, shard: usize) -> bool {
        self.links.get(shard).is_some_and(Option::is_some)
    }

    fn lease(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        company: Company,
        now: Instant,
    ) -> Option<Lease<L>> {
        let link = self.links.get(shard)?.clone()?;
        self.tenancy.begin(company);
        if self.in_flight == 0 {
            self.progress = now;
        }
        let place = if self.in_flight < self.capacity { Place::Free } else { Place::Ahead };
        self.in_flight += 1;
        let (pool, ending) = (Arc::clone(pool), Ending::Served);
        Some(Lease { pool, instance: self.instance, granted: now, place, ending, link })
    }
}

/// A lease for one that waited.
struct Grant<L: Clone> {
    reply: oneshot::Sender<Lease<L>>,
    lease: Lease<L>,
}

impl<L: Clone> Grant<L> {
    /// To be called without the pool's lock: a lease whose taker has gone releases itself, which takes it.
    fn deliver(self) {
        let _taker_has_gone = self.reply.send(self.lease);
    }
}

enum Begin<L: Clone> {
    Leased(Lease<L>),
    Wait(Wait<L>),
}

/// A place in the queue, given up when it is dropped.
struct Wait<L: Clone> {
    pool: Arc<Pool<L>>,
    ticket: Ticket,
    granted: oneshot::Receiver<Lease<L>>,
}

impl<L: Clone> Wait<L> {
    async fn within(mut self, patience: Duration) -> Result<Lease<L>, Refused> {
        match tokio::time::timeout(patience, &mut self.granted).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_dropped)) => Err(Refused::Failed),
            Err(_elapsed) => Err(Refused::TimedOut),
        }
    }
}

impl<L: Clone> Drop for Wait<L> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        let gone = state.waiting.remove(&self.ticket);
        let grants = gone.as_ref().map(|it| state.discount(it, &self.pool)).unwrap_or_default();
        drop(state);
        drop(gone);
        grants.into_iter().for_each(Grant::deliver);
    }
}

impl<L: Clone> Lease<L> {
    /// The asking shard's link to the worker.
    pub(crate) fn link(&self) -> &L {
        &self.link
    }

    /// When the room was given.
    pub(crate) fn granted(&self) -> Instant {
        self.granted
    }

    /// Where the exchange is at the worker.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Whether it has waited at the worker for too long, if it still does.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        now > self.granted + pace::WAIT
    }

    /// Whether the worker is at one request for too long.
    pub(crate) fn is_held_up(&self, now: Instant) -> bool {
        let state = self.pool.state.lock();
        let member = state.members.iter().find(|it| it.instance == self.instance);
        member.is_some_and(|it| it.is_held_up(state.pace, now))
    }

    /// The worker has answered, and goes on with a body that may have no end: who was to be alone need not be so longer.
    pub(crate) fn has_answered(&self) {
        let mut state = self.pool.state.lock();
        let member = state.members.iter_mut().find(|it| it.instance == self.instance);
        let Some(member) = member.filter(|it| it.tenancy == Tenancy::Alone) else { return };
        member.tenancy.end();
        let grants = state.grants(&self.pool, self.instance);
        drop(state);
        grants.into_iter().for_each(Grant::deliver);
    }

    /// The exchange comes back unasked. It would again, at once: who tries anew goes to another worker.
    pub(crate) fn declined(mut self) {
        self.ending = Ending::HandedBack;
        let mut state = self.pool.state.lock();
        if let Some(member) = state.members.iter_mut().find(|it| it.instance == self.instance) {
            member.avoided = Instant::now() + AVOIDED;
        }
        drop(state);
    }

    /// The worker has handed the exchange back as it was asked to.
    pub(crate) fn recalled(mut self) {
        self.ending = Ending::HandedBack;
        self.pool.state.lock().pace.recalled();
    }
}

impl<L: Clone> Drop for Lease<L> {
    fn drop(&mut self) {
        self.pool.release(self.instance, self.granted, self.ending);
    }
}

#[cfg(test)]
mod tests;
