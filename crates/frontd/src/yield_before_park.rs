//! Yields to other threads before a busy shard parks.
//!
//! A shard that parks after every few requests is woken again a few microseconds later, by clients or workers
//! that are just as busy. With all of them on the same cores, context switches and wake-ups took a third of
//! frontd's time. If the shard yields once first, the others process what it has just sent, and it returns to
//! a larger batch. Nor do some clients wait for a time slice while the shard serves files to others. A shard
//! with little work parks at once, which keeps latency low.
//!
//! The other thread may belong to an unrelated program that computes. Then a yield lasts until the end of its
//! time slice, which is milliseconds (Linux 6.18). So a shard whose yields take long stops yielding for a
//! while.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// Work per turn of the event loop from which a shard counts as busy: two requests to apps, or eight for
/// files.
const BUSY: u32 = 2 * APP;

/// The weight of a request to an app.
const APP: u32 = 4;

/// The weight of a request for a file.
const FILE: u32 = 1;

/// How long a yield may take on average. With workers and clients only, it takes 0.05 to 0.3 ms; with a
/// computing neighbour, a time slice of the scheduler, about 3 ms.
const COSTLY: Duration = Duration::from_millis(1);

/// Maximum weight of a single measurement, since the machine may have been stopped for a moment.
const MAX_COST: Duration = COSTLY.saturating_mul(4);

/// How long a shard doesn't yield after yields were costly.
const PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    static YIELDING: Cell<Yielding> = const { Cell::new(Yielding::NEW) };
}

/// What a shard knows about its yields.
#[derive(Debug, Clone, Copy)]
struct Yielding {
    /// Work since it last parked.
    work: u32,
    /// Moving average of the time that a yield takes.
    cost: Duration,
    /// Don't yield before this time, because it was too costly.
    paused: Option<Instant>,
}

/// Records a request to an app, on this thread.
pub(crate) fn app() {
    YIELDING.with(|it| it.set(it.get().after(APP)));
}

/// Records a request for a file, on this thread.
pub(crate) fn file() {
    YIELDING.with(|it| it.set(it.get().after(FILE)));
}

/// Called before this thread parks.
pub(crate) fn before_park() {
    YIELDING.with(|it| it.set(it.get().before_park(thread::yield_now)));
}

impl Yielding {
    const NEW: Self = Self { work: 0, cost: Duration::ZERO, paused: None };

    fn after(self, work: u32) -> Self {
        Self { work: self.work.saturating_add(work), ..self }
    }

    fn before_park(self, yield_now: impl FnOnce()) -> Self {
        let rested = Self { work: 0, ..self };
        if self.work < BUSY {
            return rested;
        }
        let left = Instant::now();
        if self.paused.is_some_and(|it| left < it) {
            return rested;
        }
        yield_now();
        let back = Instant::now();
        rested.yielded(back - left, back)
    }

    fn yielded(self, took: Duration, now: Instant) -> Self {
        let cost = (self.cost * 7 + took.min(MAX_COST)) / 8;
        Self { cost, paused: (cost > COSTLY).then(|| now + PAUSE), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_with_little_work_does_not_yield() {
        let check = |work: &[u32], expected: bool| {
            let mut yielded = false;
            let yielding = work.iter().fold(Yielding::NEW, |it, work| it.after(*work));
            let after = yielding.before_park(|| yielded = true);
            assert_eq!((yielded, after.work), (expected, 0), "{work:?}");
        };
        check(&[], false);
        check(&[APP], false);
        check(&[FILE; 7], false);
        check(&[APP, FILE, FILE, FILE], false);
        check(&[APP, APP], true);
        check(&[FILE; 8], true);
    }

    #[test]
    fn a_pause_starts_when_the_yield_returns() {
        let busy = Yielding { work: BUSY, cost: 4 * COSTLY, ..Yielding::NEW };
        let mut back = None;
        let after = busy.before_park(|| {
            let left = Instant::now();
            while left.elapsed() < COSTLY {
                std::hint::spin_loop();
            }
            back = Some(Instant::now());
        });
        assert!(after.paused >= back.map(|it| it + PAUSE), "{after:?}");
    }

    #[test]
    fn costly_yields_cause_a_pause() {
        let now = Instant::now();
        let after = |times: &[u64]| {
            let took = times.iter().map(|it| Duration::from_micros(*it));
            took.fold(Yielding::NEW, |it, took| it.yielded(took, now))
        };
        assert!(after(&[300; 100]).paused.is_none(), "workers and clients");
        assert!(after(&[50, 50_000, 50]).paused.is_none(), "once");
        assert!(after(&[3_000; 4]).paused.is_some(), "soon");
        let beside_a_neighbour = after(&[3_000; 100]);
        assert_eq!(beside_a_neighbour.paused, Some(now + PAUSE));
        let busy = Yielding { work: BUSY, ..beside_a_neighbour };
        busy.before_park(|| panic!("it pauses"));
        let without_neighbour =
            (0..10).fold(beside_a_neighbour, |it, _| it.yielded(Duration::from_micros(50), now));
        assert!(without_neighbour.paused.is_none(), "the neighbour is gone");
    }
}
