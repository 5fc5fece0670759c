//! The minimum age of workers that are recycled for their memory, which prevents a replacement loop if the
//! limit is below what the app needs.

use std::time::{Duration, Instant};

/// The initial minimum age.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);

/// The minimum age. It doubles whenever a worker exceeded the limit before it reached that age.
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
    /// The minimum age at which a worker is recycled for its memory.
    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    /// The minimum age, if the limit was found to be below what workers need.
    pub(crate) fn raised(&self) -> Option<Duration> {
        self.raised.map(|_| self.age)
    }

    /// A worker is being recycled that has exceeded the limit since `over`. Workers started before the last
    /// increase don't count.
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
