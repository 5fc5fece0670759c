//! Decides when a worker is recycled: replaced by a new one because of its age or usage.

use std::fmt;
use std::time::Duration;

/// The limits of a worker before it is recycled. None means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Completed requests.
    pub requests: Option<u64>,
    /// Age.
    pub lifetime: Option<Duration>,
    /// Private memory, in bytes.
    pub memory: Option<u64>,
    /// The percentage by which the first two limits are raised, differently for each worker, so that not all
    /// are recycled at once.
    pub jitter: u8,
}

/// The usage of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The number of completed requests.
    pub requests: u64,
    /// Private memory, in bytes. Shared memory wouldn't be freed by its exit.
    pub memory: u64,
}

/// Why a worker is recycled. Displayed as a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecycleCause {
    /// It has completed this many requests.
    Requests(u64),
    /// It has reached this age.
    Lifetime(Duration),
    /// It uses this many bytes of memory.
    Memory(u64),
    /// All its threads are held by responses that nobody reads any more.
    Held,
}

impl Recycle {
    /// Whether the usage exceeds the memory limit.
    pub(crate) fn is_over_memory(&self, usage: Usage) -> bool {
        self.memory.is_some_and(|it| usage.memory > it)
    }

    /// Why worker `number` should be recycled at that usage and age, if it should. Memory counts only from
    /// the age `floor`.
    pub(crate) fn cause(
        &self,
        number: u16,
        usage: Usage,
        age: Duration,
        floor: Duration,
    ) -> Option<RecycleCause> {
        let requests = self.requests.is_some_and(|it| usage.requests >= self.raised(it, number));
        let lifetime = self.lifetime_of(number).is_some_and(|it| age >= it);
        let memory = self.is_over_memory(usage) && age >= floor;
        None.or(requests.then_some(RecycleCause::Requests(usage.requests)))
            .or(memory.then_some(RecycleCause::Memory(usage.memory)))
            .or(lifetime.then_some(RecycleCause::Lifetime(age)))
    }

    /// The maximum age of worker `number`.
    pub(crate) fn lifetime_of(&self, number: u16) -> Option<Duration> {
        let milliseconds = u64::try_from(self.lifetime?.as_millis()).unwrap_or(u64::MAX);
        Some(Duration::from_millis(self.raised(milliseconds, number)))
    }

    /// Whether the limits depend on the usage of workers.
    #[must_use]
    pub fn depends_on_usage(&self) -> bool {
        self.requests.is_some() || self.memory.is_some()
    }

    /// Multiples of the golden ratio are evenly distributed over the range.
    fn raised(&self, limit: u64, number: u16) -> u64 {
        const GOLDEN: u16 = 40_503;
        let part = u128::from(number.wrapping_mul(GOLDEN)) * u128::from(self.jitter) * u128::from(limit);
        limit.saturating_add(u64::try_from(part / (100 << 16)).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for RecycleCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(requests) => write!(f, "it has answered {requests} requests"),
            Self::Lifetime(age) => write!(f, "it is {} s old", age.as_secs()),
            Self::Memory(bytes) => write!(f, "it has {} MB of memory", bytes.div_ceil(1_000_000)),
            Self::Held => f.write_str("each of its threads is blocked by a response that nobody reads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_differs_between_workers() {
        let recycle = Recycle { requests: Some(1000), jitter: 20, ..Recycle::default() };
        let limits: Vec<u64> = (1..=8).map(|number| recycle.raised(1000, number)).collect();
        assert!(limits.iter().all(|it| (1000..1200).contains(it)), "{limits:?}");
        let mut sorted = limits;
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 9), "{sorted:?}");
        assert_eq!(Recycle { jitter: 0, ..recycle }.raised(1000, 7), 1000);
        assert_eq!(Recycle { jitter: 100, ..recycle }.raised(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn causes() {
        let recycle = Recycle {
            requests: Some(10),
            lifetime: Some(Duration::from_secs(60)),
            memory: Some(1000),
            jitter: 0,
        };
        let cause = |requests, memory, age| {
            let usage = Usage { requests, memory };
            recycle.cause(1, usage, Duration::from_secs(age), Duration::ZERO).map(|it| it.to_string())
        };
        assert_eq!(cause(9, 1000, 59), None);
        assert_eq!(cause(10, 0, 0).as_deref(), Some("it has answered 10 requests"));
        assert_eq!(cause(0, 300_000_001, 0).as_deref(), Some("it has 301 MB of memory"));
        assert_eq!(cause(0, 0, 60).as_deref(), Some("it is 60 s old"));
        assert_eq!(
            Recycle::default().cause(
                1,
                Usage { requests: 1 << 60, memory: 1 << 60 },
                Duration::MAX,
                Duration::ZERO
            ),
            None
        );
    }
}
