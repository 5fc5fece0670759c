//! How far ahead of its workers an app is given requests.
//!
//! Strictly one request at a time costs a change of threads for each. A worker that answers in microseconds
//! is given a few ahead, that it finds there when it is done; one that takes long is not, as what waits at a
//! worker cannot go to another one without being recalled first.

use std::time::Duration;

/// The work that may wait at one thread of a worker.
const AHEAD: Duration = Duration::from_millis(1);

/// The most requests that may wait there.
const DEPTH: u32 = 32;

/// The time of service that is assumed of an app until it is known, and after a request had to be recalled.
const SLOW: Duration = Duration::from_millis(10);

/// The recent time of service of one app, as a moving average.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    service: Duration,
}

impl Pace {
    /// A request was served in that time, the wait for others before it apart.
    pub(crate) fn served(&mut self, took: Duration) {
        self.service = (self.service * 7 + took.min(SLOW * 10)) / 8;
    }

    /// A request waited at a worker for too long.
    pub(crate) fn recalled(&mut self) {
        self.service = self.service.max(SLOW);
    }

    /// How many requests may wait at each thread of a worker.
    pub(crate) fn ahead(&self) -> usize {
        let fit = AHEAD.as_nanos() / self.service.as_nanos().max(1);
        usize::try_from(fit.min(DEPTH.into())).unwrap_or(0)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { service: SLOW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: impl IntoIterator<Item = u64>) -> usize {
        let mut pace = Pace::default();
        times.into_iter().for_each(|it| pace.served(Duration::from_micros(it)));
        pace.ahead()
    }

    #[test]
    fn only_the_quick_are_given_requests_ahead() {
        assert_eq!(after([]), 0);
        assert_eq!(after([20; 5]), 0, "not known well enough");
        assert_eq!(after([20; 100]), 32);
        assert_eq!(after([200; 100]), 4);
        assert_eq!(after([2_000; 100]), 0);
        assert_eq!(after(std::iter::repeat_n(20, 100).chain([100_000])), 0, "one slow one is enough");
    }

    #[test]
    fn a_recall_ends_it() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.served(Duration::from_micros(20)));
        pace.recalled();
        assert_eq!(pace.ahead(), 0);
    }
}
