//! A request that may have ended its worker is tried again alone, so that it ends no other request, and no other ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Begin, Grant, Lease, Member, Pool, Refused, State, Ticket, Waiting};
use crate::pace::Pace;

/// With whom a request may be at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Others,
    Nobody,
}

/// Whom a member takes.
///
/// ```text
///            one waits to be alone          it is granted
///   Shared ────────────────────────▶ Kept ────────────────▶ Alone
///     ▲ │◀── none waits any more ─────┘                       ▲ │
///     │ └── it is idle, and granted at once ──────────────────┘ │
///     ├── it has answered, or ended ────────────────────────────┘
///     └── linked to again ── Lost ◀── a link to it broke ── any of them
/// ```
///
/// One member at most is kept or has one alone, so that those who wait to be alone take no more of the app than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenancy {
    Shared,
    /// Nobody more until it is idle, and then one that is to be alone. One member at most, which also goes on if
    /// another becomes idle before it.
    Kept,
    /// It has one that is to be alone.
    Alone,
    /// A shard has found it gone, which others have yet to find.
    Lost,
}

impl<L: Clone> Pool<L> {
    /// As `acquire`, but a worker that has nothing else to do, and is given nothing else meanwhile.
    ///
    /// # Errors
    /// As `acquire`.
    pub(crate) async fn acquire_alone(
        self: &Arc<Self>,
        shard: usize,
        ticket: &mut Option<Ticket>,
        patience: Duration,
    ) -> Result<Lease<L>, Refused> {
        match self.begin(shard, Company::Nobody, ticket)? {
            Begin::Leased(lease) => Ok(lease),
            Begin::Wait(wait) => wait.within(patience).await,
        }
    }

    /// The link of `shard` to a worker broke, and so may those of the others soon: the worker is given nothing more before
    /// it is linked to again.
    pub(crate) fn lose(self: &Arc<Self>, shard: usize, instance: u64) {
        if let Some(member) = self.state.lock().members.iter_mut().find(|it| it.instance == instance) {
            member.tenancy = Tenancy::Lost;
        }
        self.unlink(shard, instance);
    }
}

impl<L: Clone> State<L> {
    /// While any waits to be alone, one member is kept for them, and none when none does; what the member can be
    /// given that is kept no more.
    pub(super) fn keep_one(&mut self, pool: &Arc<Pool<L>>) -> Vec<Grant<L>> {
        let (waits, one_is_alone) = (self.first_alone(), self.one_is_alone());
        let kept = self.members.iter_mut().find(|it| it.tenancy == Tenancy::Kept);
        match (waits, kept) {
            (None, Some(member)) => {
                member.tenancy = Tenancy::Shared;
                let instance = member.instance;
                std::iter::from_fn(|| self.grant(pool, instance)).collect()
            }
            (Some(shard), None) if !one_is_alone => {
                let linked = self.members.iter_mut().filter(|it| it.is_linked(shard));
                let shared = linked.filter(|it| it.tenancy == Tenancy::Shared);
                if let Some(member) = shared.min_by_key(|it| it.in_flight) {
                    member.tenancy = Tenancy::Kept;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Whether any member has one that is to be alone.
    pub(super) fn one_is_alone(&self) -> bool {
        self.members.iter().any(|it| it.tenancy == Tenancy::Alone)
    }

    /// The shard of the first that waits to be alone.
    fn first_alone(&self) -> Option<usize> {
        if self.waiting_alone == 0 {
            return None;
        }
        self.waiting.values().find(|it| it.company == Company::Nobody).map(|it| it.shard)
    }

    /// One waits no more; what can be given therefore.
    pub(super) fn discount(&mut self, waiting: &Waiting<L>, pool: &Arc<Pool<L>>) -> Vec<Grant<L>> {
        match waiting.company {
            Company::Others => Vec::new(),
            Company::Nobody => {
                self.waiting_alone -= 1;
                self.keep_one(pool)
            }
        }
    }
}

impl<L: Clone> Member<L> {
    /// Whether it can be given one more, of that company.
    pub(super) fn takes(&self, company: Company, pace: Pace, now: Instant) -> bool {
        self.has_room(pace, now)
            && match company {
                Company::Others => self.tenancy == Tenancy::Shared,
                Company::Nobody => self.in_flight == 0,
            }
    }

    /// One that has gone can be given nothing, and is kept for nobody.
    pub(super) fn keep_only_if_linked(&mut self) {
        if self.tenancy == Tenancy::Kept && !self.takes_requests() {
            self.tenancy = Tenancy::Shared;
        }
    }
}

impl Tenancy {
    /// One is given to the member.
    pub(super) fn begin(&mut self, company: Company) {
        if company == Company::Nobody {
            *self = Self::Alone;
        }
    }

    /// A shard is linked to the member.
    pub(super) fn linked(&mut self) {
        if *self == Self::Lost {
            *self = Self::Shared;
        }
    }

    /// One has answered, or ended, at the member.
    pub(super) fn end(&mut self) {
        if *self == Self::Alone {
            *self = Self::Shared;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::super::Admission;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3600);

    fn pool(workers: u64, capacity: usize) -> Arc<Pool<u64>> {
        let pool = Pool::new(Admission::Queue(10));
        (1..=workers).for_each(|it| pool.link(0, it, capacity, it));
        pool
    }

    async fn beside_others(pool: &Arc<Pool<u64>>) -> Lease<u64> {
        pool.acquire(0, &mut None, PATIENCE).await.unwrap()
    }

    async fn alone(pool: &Arc<Pool<u64>>) -> Lease<u64> {
        pool.acquire_alone(0, &mut None, PATIENCE).await.unwrap()
    }

    #[tokio::test]
    async fn an_idle_worker_is_had_alone() {
        let pool = pool(2, 4);
        let first = beside_others(&pool).await;
        let second = alone(&pool).await;
        assert_eq!((*first.link(), *second.link()), (1, 2));
        let others = [beside_others(&pool).await, beside_others(&pool).await, beside_others(&pool).await];
        assert!(others.iter().all(|it| *it.link() == 1));
        let mut one_more = Box::pin(beside_others(&pool));
        assert!(poll!(&mut one_more).is_pending(), "there is room at a worker that one has alone");
        drop(second);
        assert_eq!(*one_more.await.link(), 2);
    }

    #[tokio::test]
    async fn a_busy_worker_is_kept_until_it_is_idle() {
        let pool = pool(1, 2);
        let (first, second) = (beside_others(&pool).await, beside_others(&pool).await);
        let mut waits = Box::pin(alone(&pool));
        assert!(poll!(&mut waits).is_pending());
        let mut later = Box::pin(beside_others(&pool));
        assert!(poll!(&mut later).is_pending());
        drop(first);
        assert!(poll!(&mut waits).is_pending() && poll!(&mut later).is_pending(), "it is not idle");
        drop(second);
        let had = waits.await;
        assert!(poll!(&mut later).is_pending(), "one has it alone");
        drop(had);
        later.await;
    }

    #[tokio::test]
    async fn who_waits_no_more_leaves_the_worker_to_the_others() {
        let pool = pool(1, 2);
        let _busy = beside_others(&pool).await;
        let mut waits = Box::pin(alone(&pool));
        assert!(poll!(&mut waits).is_pending());
        let mut later = Box::pin(beside_others(&pool));
        assert!(poll!(&mut later).is_pending());
        drop(waits);
        later.await;
    }

    #[tokio::test]
    async fn a_worker_that_was_kept_in_vain_is_given_to_the_others() {
        let pool = pool(2, 2);
        let busy = [(); 4].map(|()| pool.state.lock().lease_least_busy(&pool, 0, Company::Others).unwrap());
        let [a, b, c, d] = busy;
        assert_eq!([&a, &b, &c, &d].map(|it| *it.link()), [1, 2, 1, 2]);
        let mut waits = Box::pin(alone(&pool));
        assert!(poll!(&mut waits).is_pending());
        let mut later = Box::pin(beside_others(&pool));
        assert!(poll!(&mut later).is_pending());
        drop(a);
        assert!(poll!(&mut later).is_pending(), "the first is kept");
        drop(b);
        let later = later.await;
        drop((later, d));
        let had = waits.await;
        assert_eq!(*had.link(), 2, "it was idle first");
        assert_eq!(*beside_others(&pool).await.link(), 1);
        drop(c);
    }

    #[tokio::test]
    async fn one_after_the_other_has_the_same_worker_alone() {
        let pool = pool(1, 1);
        let busy = beside_others(&pool).await;
        let (mut first, mut second) = (Box::pin(alone(&pool)), Box::pin(alone(&pool)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(busy);
        let had = first.await;
        assert!(poll!(&mut second).is_pending());
        drop(had);
        drop(second.await);
        drop(beside_others(&pool).await);
    }

    #[tokio::test]
    async fn those_who_wait_to_be_alone_take_one_worker_from_the_others() {
        let pool = pool(2, 1);
        let busy = [beside_others(&pool).await, beside_others(&pool).await];
        let (mut first, mut second) = (Box::pin(alone(&pool)), Box::pin(alone(&pool)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let mut later = Box::pin(beside_others(&pool));
        assert!(poll!(&mut later).is_pending());
        drop(busy);
        let had = first.await;
        assert!(poll!(&mut second).is_pending());
        assert_ne!(later.await.link(), had.link());
        drop(had);
        second.await;
    }

    #[tokio::test]
    async fn who_has_answered_is_alone_no_longer() {
        let pool = pool(1, 2);
        let streams = alone(&pool).await;
        let mut later = Box::pin(beside_others(&pool));
        assert!(poll!(&mut later).is_pending());
        streams.has_answered();
        later.await;
    }

    #[tokio::test]
    async fn a_worker_that_goes_is_kept_for_nobody() {
        let pool = pool(2, 2);
        let busy = [(); 4].map(|()| pool.state.lock().lease_least_busy(&pool, 0, Company::Others).unwrap());
        let [streams, b, c, d] = busy;
        let mut waits = Box::pin(alone(&pool));
        assert!(poll!(&mut waits).is_pending());
        pool.unlink(0, *streams.link());
        let mut later = Box::pin(beside_others(&pool));
        drop(b);
        assert!(poll!(&mut later).is_pending(), "the other is kept in its place");
        drop((c, d));
        assert_eq!(*waits.await.link(), 2);
    }

    #[tokio::test]
    async fn a_worker_that_one_shard_has_lost_is_given_nothing_until_it_is_linked_to_again() {
        let pool = pool(1, 2);
        pool.link(1, 1, 2, 1);
        pool.lose(0, 1);
        let mut ticket = None;
        let mut waits = Box::pin(pool.acquire(1, &mut ticket, PATIENCE));
        assert!(poll!(&mut waits).is_pending(), "the other shard does not know yet");
        pool.link(0, 1, 2, 1);
        assert_eq!(*waits.await.unwrap().link(), 1);
    }
}
