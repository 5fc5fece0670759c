//! How long to wait before a worker that exited is replaced.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
/// The first delay after a start that failed for a reason that won't go away soon.
const FIRST_SLOW: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// If a worker served for this long before it exited, it isn't in a crash loop.
const RAN_WELL: Duration = Duration::from_secs(10);

/// No delay after the first crash, then 100 ms, doubling up to a minute. After starts that failed for lasting
/// reasons, delays begin at a second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
    /// When the first worker became ready after the last failure.
    ready_since: Option<Instant>,
}

impl Backoff {
    /// Whether the delay isn't over.
    pub(crate) fn is_waiting(&self, now: Instant) -> bool {
        self.until.is_some_and(|it| now < it)
    }

    /// When the delay ends.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A worker that had served since `since` exited.
    pub(crate) fn crashed(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= RAN_WELL {
            *self = Self::default();
        }
        self.wait(FIRST, now);
    }

    /// A worker is ready. Once it has served long enough, earlier failures are forgotten.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.ready_since.get_or_insert(now);
    }

    /// A process exited before it was ready.
    pub(crate) fn failed_to_start(&mut self, now: Instant) {
        self.forget_if_ran_well(now);
        self.failures = self.failures.max(1);
        self.wait(FIRST, now);
    }

    /// Like [`Self::failed_to_start`], for a reason that won't go away soon.
    pub(crate) fn failed_slowly(&mut self, now: Instant) {
        self.forget_if_ran_well(now);
        self.failures = self.failures.max(1);
        self.wait(FIRST_SLOW, now);
    }

    fn forget_if_ran_well(&mut self, now: Instant) {
        if self.ready_since.is_some_and(|it| now.duration_since(it) >= RAN_WELL) {
            *self = Self::default();
        }
    }

    /// Failures during a delay count as one.
    fn wait(&mut self, first: Duration, now: Instant) {
        self.ready_since = None;
        if self.is_waiting(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + delay(first, self.failures));
    }
}

fn delay(first: Duration, failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(1 << doublings.min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let waits: Vec<u128> = (1..=13).map(|it| delay(FIRST, it).as_millis()).collect();
        assert_eq!(waits[..5], [0, 100, 200, 400, 800]);
        assert_eq!(waits[9..], [25_600, 51_200, 60_000, 60_000]);
        assert_eq!(delay(FIRST, u32::MAX), LONGEST);
        let slow: Vec<u64> = (2..=9).map(|it| delay(FIRST_SLOW, it).as_secs()).collect();
        assert_eq!(slow, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn failures_during_a_delay_count_once() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed_to_start(now);
        }
        assert_eq!(backoff.until(), Some(now + FIRST));
    }
}
