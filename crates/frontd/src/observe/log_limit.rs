//! Rate limit for log lines: one line per period, and a count of the others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The limit for one kind of line, over all threads.
#[derive(Debug)]
pub(crate) struct LogLimit {
    /// In seconds.
    period: u64,
    /// The second of the last line, counted from 1. 0 means none yet.
    last: AtomicU64,
    withheld: AtomicU64,
}

impl LogLimit {
    pub(crate) const fn new() -> Self {
        Self::every(1)
    }

    /// One line per this many seconds, for conditions that may last for hours.
    pub(crate) const fn every(seconds: u64) -> Self {
        Self { period: seconds, last: AtomicU64::new(0), withheld: AtomicU64::new(0) }
    }

    /// Returns whether a line may be written now, with the number of lines withheld since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        self.pass_at(BEGAN.get_or_init(Instant::now).elapsed().as_secs() + 1)
    }

    fn pass_at(&self, now: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= self.period;
        let is_first =
            is_due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first {
            return Some(self.withheld.swap(0, Ordering::Relaxed));
        }
        self.withheld.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_second_with_the_number_of_withheld_lines() {
        let limit = LogLimit::new();
        assert_eq!(
            [1, 1, 1, 2, 2, 5, 6].map(|now| limit.pass_at(now)),
            [Some(0), None, None, Some(2), None, Some(1), Some(0)]
        );
        let limit = LogLimit::every(30);
        assert_eq!(
            [1, 2, 30, 31, 60, 61].map(|now| limit.pass_at(now)),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
