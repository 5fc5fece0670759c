//! Exponential backoff.

use std::time::Duration;

/// Delays that double from 50 ms to 1 s, for a peer on the same machine that is restarting.
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
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        tokio::time::sleep(now).await;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
