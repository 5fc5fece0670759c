//! Nested usage limits: per connection, per address, per app and in total.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A limit and the current usage. Usage of a part also counts against the whole.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    used: AtomicU64,
    freed: Notify,
    whole: Option<Arc<Self>>,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), freed: Notify::new(), whole: None })
    }

    /// Creates a sub-quota of at most `limit`.
    pub(crate) fn part(self: &Arc<Self>, limit: u64) -> Arc<Self> {
        let whole = Some(Arc::clone(self));
        Arc::new(Self { limit, used: AtomicU64::new(0), freed: Notify::new(), whole })
    }

    /// Takes up to `wanted` of what is left and returns how much was taken.
    pub(crate) fn take_up_to(&self, wanted: u64) -> u64 {
        let more = |used: u64| Some(used.saturating_add(wanted).min(self.limit.max(used)));
        let before = match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(before) | Err(before) => before,
        };
        let taken = wanted.min(self.limit.saturating_sub(before));
        let Some(whole) = &self.whole else { return taken };
        let granted = whole.take_up_to(taken);
        self.release(taken - granted);
        granted
    }

    /// Takes one unit until the returned guard is dropped, or returns `None` if nothing is left.
    pub(crate) fn take_one(self: &Arc<Self>) -> Option<Held> {
        (self.take_up_to(1) == 1).then(|| Held { quota: Arc::clone(self), amount: 1 })
    }

    /// Takes all of `amount` until the returned guard is dropped, or returns `None` if there isn't as much.
    pub(crate) fn take(self: &Arc<Self>, amount: u64) -> Option<Held> {
        let taken = self.take_up_to(amount);
        if taken < amount {
            self.give(taken);
            return None;
        }
        Some(Held { quota: Arc::clone(self), amount })
    }

    /// Counts `amount` as used until the returned guard is dropped, even beyond the limit: for what already
    /// exists.
    pub(crate) fn hold(self: &Arc<Self>, amount: u64) -> Held {
        self.charge(amount);
        Held { quota: Arc::clone(self), amount }
    }

    /// Wraps `bytes` so that they count as used until their last clone or slice is dropped, even beyond the
    /// limit.
    pub(crate) fn count(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let held = self.hold(bytes.len() as u64);
        Bytes::from_owner(Counted { bytes, _held: held })
    }

    /// Counts `amount` as used, even beyond the limit.
    pub(crate) fn charge(&self, amount: u64) {
        self.used.fetch_add(amount, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.charge(amount);
        }
    }

    /// Gives back what was taken or charged.
    pub(crate) fn give(&self, amount: u64) {
        self.release(amount);
        if let Some(whole) = &self.whole {
            whole.give(amount);
        }
    }

    fn release(&self, amount: u64) {
        let before = self.used.fetch_sub(amount, Ordering::Relaxed);
        if before >= self.limit && before - amount < self.limit {
            self.freed.notify_one();
        }
    }

    /// Whether this level itself, without its parents, uses less than `amount`.
    pub(crate) fn uses_less_than(&self, amount: u64) -> bool {
        self.used.load(Ordering::Relaxed) < amount
    }

    /// Whether less than half is in use, at this level and at all levels above it.
    pub(crate) fn is_ample(&self) -> bool {
        self.uses_less_than(self.limit / 2) && self.whole.as_ref().is_none_or(|it| it.is_ample())
    }

    /// Whether nothing is left at this level itself.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether nothing can be taken, at this level or at one above it.
    pub(crate) fn is_full(&self) -> bool {
        self.is_used_up() || self.whole.as_ref().is_some_and(|it| it.is_full())
    }

    /// Waits until something can be taken.
    pub(crate) async fn room(&self) {
        while self.is_full() {
            let mut level = self;
            while let Some(whole) = level.whole.as_deref().filter(|_| !level.is_used_up()) {
                level = whole;
            }
            let mut freed = pin!(level.freed.notified());
            freed.as_mut().enable();
            if level.is_used_up() {
                freed.await;
                // Each waiter wakes the next one while something is left, so that one release doesn't wake
                // them all at once.
                if !level.is_used_up() {
                    level.freed.notify_one();
                }
            }
        }
    }

    /// The current usage.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Usage that is given back on drop.
#[derive(Debug)]
pub(crate) struct Held {
    quota: Arc<Quota>,
    amount: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.quota.give(self.amount);
    }
}

/// Bytes that count as used until their last clone or slice is dropped.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One shared value per key, such as an address or an app, which lives as long as somebody uses it.
#[derive(Debug)]
pub(crate) struct Shares<K, V>(Mutex<Known<K, V>>);

#[derive(Debug)]
struct Known<K, V> {
    values: HashMap<K, Weak<V>>,
    /// Once there are this many entries, unused ones are removed.
    purge_at: usize,
}

impl<K: Hash + Eq, V> Shares<K, V> {
    const MIN_PURGE: usize = 256;

    pub(crate) fn new() -> Self {
        Self(Mutex::new(Known { values: HashMap::new(), purge_at: Self::MIN_PURGE }))
    }

    /// Returns the value of `key`, and creates it with `make` if there is none.
    pub(crate) fn of(&self, key: K, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
        let mut known = self.0.lock();
        if let Some(value) = known.values.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        if known.values.len() >= known.purge_at {
            known.values.retain(|_, it| it.strong_count() > 0);
            known.purge_at = (known.values.len() * 2).max(Self::MIN_PURGE);
        }
        let value = make();
        known.values.insert(key, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake};

    use super::*;

    #[test]
    fn a_part_is_bounded_by_itself_and_by_the_whole() {
        let whole = Quota::new(10);
        let (a, b) = (whole.part(6), whole.part(6));
        assert_eq!((a.take_up_to(7), b.take_up_to(7)), (6, 4));
        assert!(a.is_used_up() && !b.is_used_up() && b.is_full());
        assert_eq!((b.used(), whole.used()), (4, 10));
        a.give(6);
        assert_eq!((b.take_up_to(7), whole.used()), (2, 6));
    }

    #[tokio::test]
    async fn room_waits_until_usage_falls_below_the_limit() {
        let whole = Quota::new(10);
        let (a, b) = (whole.part(6), whole.part(6));
        let held = (a.hold(8), b.hold(4));
        assert_eq!((a.take_up_to(1), b.take_up_to(1)), (0, 0));
        let free = async {
            drop(held.1);
            tokio::task::yield_now().await;
            assert!(!b.is_full() && a.is_full());
            drop(held.0);
        };
        tokio::join!(a.room(), b.room(), free);
        assert_eq!(whole.used(), 0);
    }

    /// A task that waits for room, and whether it was woken.
    struct Waiter<'a> {
        room: Pin<Box<dyn Future<Output = ()> + 'a>>,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl<'a> Waiter<'a> {
        fn new(quota: &'a Quota) -> Self {
            Self { room: Box::pin(quota.room()), woken: Arc::default() }
        }

        fn has_room(&mut self) -> bool {
            self.woken.0.store(false, Ordering::Relaxed);
            let waker = Arc::clone(&self.woken).into();
            self.room.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_release_wakes_one_waiter_which_wakes_the_next_while_something_is_left() {
        let quota = Quota::new(1);
        quota.charge(3);
        let mut waiters = [(); 3].map(|()| Waiter::new(&quota));
        assert!(waiters.iter_mut().all(|it| !it.has_room()));
        quota.give(1);
        assert!(waiters.iter().all(|it| !it.is_woken()), "the limit is still exceeded");
        quota.give(2);
        assert_eq!(waiters.iter().filter(|it| it.is_woken()).count(), 1);
        assert!(waiters[0].is_woken() && waiters[0].has_room());
        let taken = quota.take_one().unwrap();
        assert!(waiters[1].is_woken() && !waiters[1].has_room(), "nothing is left for it");
        assert!(!waiters[2].is_woken());
        drop(taken);
        assert!(waiters[2].is_woken() && waiters[2].has_room());
        assert!(waiters[1].is_woken() && waiters[1].has_room());
    }

    #[test]
    fn an_unused_share_is_removed() {
        let shares = Shares::new();
        let first = shares.of(0, || Arc::new(0));
        assert!(Arc::ptr_eq(&first, &shares.of(0, || Arc::new(1))));
        for key in 1..10_000 {
            shares.of(key, || Arc::new(key));
        }
        assert!(shares.0.lock().values.len() <= 256);
        assert!(Arc::ptr_eq(&first, &shares.of(0, || Arc::new(1))));
    }
}
