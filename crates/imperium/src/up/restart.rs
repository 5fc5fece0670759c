//! Decides how long to wait before a daemon is restarted.

use std::time::Duration;

/// No delay the first time, then delays that double while the daemon keeps failing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restart {
    /// The number of consecutive early exits.
    in_a_row: u32,
}

impl Restart {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);
    /// A daemon that ran for this long has recovered.
    const STEADY: Duration = Duration::from_secs(5);

    /// Returns the delay for a daemon that has just exited after it `ran` for that long.
    pub(crate) fn delay(&mut self, ran: Duration) -> Duration {
        if ran >= Self::STEADY {
            self.in_a_row = 0;
        }
        let delay = match self.in_a_row.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => Self::FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(Self::LONGEST),
        };
        self.in_a_row = self.in_a_row.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ran_milliseconds: &[u64], expected_milliseconds: &[u128]) {
        let mut restart = Restart::default();
        let delays = ran_milliseconds.iter().map(|it| restart.delay(Duration::from_millis(*it)).as_millis());
        assert_eq!(delays.collect::<Vec<_>>(), expected_milliseconds);
    }

    #[test]
    fn delays() {
        check(&[0], &[0]);
        check(&[60_000, 60_000, 60_000], &[0, 0, 0]);
        check(&[0, 0, 0, 0], &[0, 100, 200, 400]);
        check(&[0; 9], &[0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        check(&[0, 0, 4999, 5000, 0], &[0, 100, 200, 0, 100]);
        let mut worn = Restart { in_a_row: u32::MAX };
        assert_eq!(worn.delay(Duration::ZERO), Restart::LONGEST);
    }
}
