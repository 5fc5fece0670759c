//! Exponential backoff.

use std::time::Duration;

/// Delays that double from 50 ms to 1 s, for a peer on the same machine that is restarting. Each is shortened at
/// random by up to half, so that those who wait for the same peer don't all try at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    /// Starts with the shortest delay.
    #[must_use]
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Starts again with the shortest delay, after the peer has responded.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// Waits for the current delay, then doubles it.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }

    fn delay(&mut self) -> Duration {
        let longest = self.next;
        self.next = (longest * 2).min(Self::LONGEST);
        longest.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_second_and_differ() {
        let series = || {
            let mut backoff = Backoff::new();
            std::iter::repeat_with(move || backoff.delay()).take(8)
        };
        let longest = [50, 100, 200, 400, 800, 1000, 1000, 1000].map(Duration::from_millis);
        for (delay, longest) in series().zip(longest) {
            assert!(delay > longest / 2 && delay <= longest, "{delay:?} of {longest:?}");
        }
        assert!(series().ne(series()), "two peers wait equally long");
    }
}
