//! Decides how many requests may be queued at a worker in advance.
//!
//! One request at a time costs a context switch for each, and leaves the worker idle for a round trip. So a
//! worker that answers within milliseconds gets a few requests in advance, and one that answers in
//! microseconds a batch. A slow one gets none, because a request queued at a worker must be recalled before
//! another worker can take it.

use std::time::Duration;

/// How much work may be queued per thread of a worker.
const QUEUED_WORK: Duration = Duration::from_millis(8);

/// Maximum number of requests queued per thread. It is so large that a few hundred clients of a minimal app
/// rarely wait in the pool's queue, which takes a wake-up of another shard to leave.
const MAX_DEPTH: u32 = 128;

/// A request that took this long is slow.
const SLOW: Duration = Duration::from_millis(10);

/// After a slow request, no requests are queued in advance until this many others were served: there may be
/// more slow ones among them.
const COOLDOWN: u32 = 64;

/// How long a worker may take for one request before it counts as stalled: a multiple of the average, clamped
/// to a minimum, so that a context switch on a busy machine doesn't count, and to a maximum, so that nobody
/// notices the wait.
const STALL_LIMITS: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(20));

/// How long a request may be queued at a worker that makes progress.
pub(crate) const MAX_WAIT: Duration = QUEUED_WORK.saturating_mul(3);

/// The recent service time of one app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// A moving average.
    service: Duration,
    /// Requests until the last slow one is forgotten.
    cooldown: u32,
}

impl Pace {
    /// Records a request that took this long, without the wait for others before it.
    pub(crate) fn served(&mut self, took: Duration) {
        self.service = (self.service * 7 + took.min(SLOW * 10)) / 8;
        self.cooldown = if took >= SLOW { COOLDOWN } else { self.cooldown.saturating_sub(1) };
    }

    /// Records that a request had to be recalled from a worker.
    pub(crate) fn recalled(&mut self) {
        self.cooldown = COOLDOWN;
    }

    /// How many requests may be queued per thread of a worker.
    pub(crate) fn queue_depth(&self) -> usize {
        if self.cooldown > 0 {
            return 0;
        }
        let fit = QUEUED_WORK.as_nanos() / self.service.as_nanos().max(1);
        usize::try_from(fit.min(MAX_DEPTH.into())).unwrap_or(0)
    }

    /// How long a worker may take for one request before it counts as stalled.
    pub(crate) fn stall_limit(&self) -> Duration {
        (self.service * 4).clamp(STALL_LIMITS.0, STALL_LIMITS.1)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { service: SLOW, cooldown: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: impl IntoIterator<Item = u64>) -> (usize, u128) {
        let mut pace = Pace::default();
        times.into_iter().for_each(|it| pace.served(Duration::from_micros(it)));
        (pace.queue_depth(), pace.stall_limit().as_millis())
    }

    #[test]
    fn fast_apps_get_requests_in_advance_and_slow_ones_none() {
        assert_eq!(after([]), (0, 20), "not known yet");
        assert_eq!(after([20; 100]), (128, 8));
        assert_eq!(after([200; 100]), (39, 8));
        assert_eq!(after([2_000; 100]), (3, 8));
        assert_eq!(after([7_000; 100]).0, 1);
        assert_eq!(after([20_000; 100]), (0, 20));
        let slow_one_and_quick = |quick| [100_000].into_iter().chain(std::iter::repeat_n(20, quick));
        assert_eq!(after(slow_one_and_quick(63)).0, 0, "one slow request is remembered");
        assert_eq!(after(slow_one_and_quick(100)).0, 128);
    }

    #[test]
    fn after_a_recall_no_requests_are_queued_in_advance() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.served(Duration::from_micros(20)));
        pace.recalled();
        assert_eq!(pace.queue_depth(), 0);
    }
}
