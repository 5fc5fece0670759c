//! How long a worker is kept before it is replaced for its memory, so that a limit below what the app needs makes no
//! loop of replacements.

use std::time::{Duration, Instant};

/// How old a worker is at least.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);

/// The least age, which doubles with each worker that has had more than the limit before it was so old.
#[derive(Debug, Clone)]
pub(crate) struct MemoryFloor {
    age: Duration,
    raised: Option<Instant>,
}

impl Default for MemoryFloor {
    fn default() -> Self {
        Self { age: FIRST, raised: None }
    }
}

impl MemoryFloor {
    /// The least age at which a worker is replaced for its memory.
    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    /// The least age, where the limit was found to be below what workers need.
    pub(crate) fn raised(&self) -> Option<Duration> {
        self.raised.map(|_| self.age)
    }

    /// A worker is to be replaced that has had more than the limit since `over`. One that is older than the last raise
    /// says nothing new.
    pub(crate) fn replaced(&mut self, born: Instant, over: Instant, now: Instant) {
        if self.raised.is_some_and(|it| born < it) {
            return;
        }
        *self = match over.saturating_duration_since(born) < self.age {
            true => Self { age: (self.age * 2).min(LONGEST), raised: Some(now) },
            false => Self::default(),
        };
    }
}
