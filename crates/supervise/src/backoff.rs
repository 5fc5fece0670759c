//! How long to wait before a worker that ended is replaced.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// The shortest wait after a start that failed for a reason that is unlikely to pass by itself.
const SLOW: Duration = Duration::from_secs(1);
/// A worker that served for so long before it ended is no sign of a crash loop.
const RAN_WELL: Duration = Duration::from_secs(10);

/// None after the first failure, then 100 ms, doubling up to 30 s.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether nothing may be started yet.
    pub(crate) fn is_waiting(&self, now: Instant) -> bool {
        self.until.is_some_and(|it| now < it)
    }

    /// When the wait ends.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A worker that had served since `since` ended.
    pub(crate) fn crashed(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= RAN_WELL {
            *self = Self::default();
        }
        self.wait(Duration::ZERO, now);
    }

    /// A worker ended before it was ready.
    pub(crate) fn failed_to_start(&mut self, now: Instant) {
        self.failures = self.failures.max(1);
        self.wait(Duration::ZERO, now);
    }

    /// As [`Self::failed_to_start`], for a reason that is unlikely to pass by itself.
    pub(crate) fn failed_for_good(&mut self, now: Instant) {
        self.failures = self.failures.max(1);
        self.wait(SLOW, now);
    }

    /// Failures that come together, while one of them is waited for already, are one.
    fn wait(&mut self, at_least: Duration, now: Instant) {
        if self.is_waiting(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + delay(self.failures).max(at_least));
    }
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let waits: Vec<u128> = (1..=12).map(|it| delay(it).as_millis()).collect();
        assert_eq!(waits[..5], [0, 100, 200, 400, 800]);
        assert_eq!(waits[8..], [12_800, 25_600, 30_000, 30_000]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn failures_that_come_together_are_one() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed_to_start(now);
        }
        assert_eq!(backoff.until(), Some(now + FIRST));
    }
}
