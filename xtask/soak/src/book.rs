//! Assigns numbers to requests, and times to events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by the whole soak. Clones are handles to the same book.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    begun: Instant,
    last: Arc<AtomicU64>,
}

impl Default for Book {
    fn default() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }
}

impl Book {
    /// The time since the start of the soak.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns a new number each time, starting with 1.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
