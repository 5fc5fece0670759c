//! Gives each request its number, and each event its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One for a soak; its clones are the same.
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
    /// Since the soak began.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Another one each time, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}
