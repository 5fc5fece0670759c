//! How far ahead of its workers an app is given requests.
//!
//! Strictly one request at a time costs a change of threads for each, and leaves the worker idle for the way
//! there and back. A worker that answers within milliseconds is given some ahead, one that answers in microseconds
//! a batch; one that takes long is given nothing, as what waits at a worker cannot go to another one without
//! being recalled first.

use std::time::Duration;

/// The work that may wait at one thread of a worker.
const AHEAD: Duration = Duration::from_millis(8);

/// The most requests that may wait there: so many that a few hundred clients of a bare app hardly ever wait in
/// the queue, where it takes a wake-up of another shard to be let out.
const DEPTH: u32 = 128;

/// A request that took so long is a slow one.
const SLOW: Duration = Duration::from_millis(10);

/// As many requests are given to nobody ahead after a slow one: another may be among them.
const WARY: u32 = 64;

/// How long a worker may be at one request until it counts as held up: some times the usual, but never so short
/// that a change of threads on a busy machine takes it, nor so long that somebody would notice.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(20));

/// How long a request may wait at a worker that gets on with others.
pub(crate) const WAIT: Duration = AHEAD.saturating_mul(3);

/// The recent time of service of one app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// A moving average.
    service: Duration,
    /// Requests until the last slow one is forgotten.
    wary: u32,
}

impl Pace {
    /// A request was served in that time, the wait for others before it apart.
    pub(crate) fn served(&mut self, took: Duration) {
        self.service = (self.service * 7 + took.min(SLOW * 10)) / 8;
        self.wary = if took >= SLOW { WARY } else { self.wary.saturating_sub(1) };
    }

    /// A request had to be recalled from a worker.
    pub(crate) fn recalled(&mut self) {
        self.wary = WARY;
    }

    /// How many requests may wait at each thread of a worker.
    pub(crate) fn ahead(&self) -> usize {
        if self.wary > 0 {
            return 0;
        }
        let fit = AHEAD.as_nanos() / self.service.as_nanos().max(1);
        usize::try_from(fit.min(DEPTH.into())).unwrap_or(0)
    }

    /// How long a worker may be at one request until it counts as held up.
    pub(crate) fn patience(&self) -> Duration {
        (self.service * 4).clamp(PATIENCE.0, PATIENCE.1)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { service: SLOW, wary: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: impl IntoIterator<Item = u64>) -> (usize, u128) {
        let mut pace = Pace::default();
        times.into_iter().for_each(|it| pace.served(Duration::from_micros(it)));
        (pace.ahead(), pace.patience().as_millis())
    }

    #[test]
    fn the_quick_are_given_requests_ahead_and_the_slow_none() {
        assert_eq!(after([]), (0, 20), "not known yet");
        assert_eq!(after([20; 100]), (128, 8));
        assert_eq!(after([200; 100]), (39, 8));
        assert_eq!(after([2_000; 100]), (3, 8));
        assert_eq!(after([7_000; 100]).0, 1);
        assert_eq!(after([20_000; 100]), (0, 20));
        let slow_one_and_quick = |quick| [100_000].into_iter().chain(std::iter::repeat_n(20, quick));
        assert_eq!(after(slow_one_and_quick(63)).0, 0, "one slow one is remembered");
        assert_eq!(after(slow_one_and_quick(100)).0, 128);
    }

    #[test]
    fn a_recall_ends_it() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.served(Duration::from_micros(20)));
        pace.recalled();
        assert_eq!(pace.ahead(), 0);
    }
}
