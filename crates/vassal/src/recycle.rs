//! When a process is replaced because of its age or use.

use std::time::Duration;

use config::{Document, value};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The limits after which a process is replaced. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recycle {
    /// The number of requests.
    pub requests: Option<u64>,
    /// The age.
    pub lifetime: Option<Duration>,
    /// The private memory, in bytes.
    pub memory: Option<u64>,
    /// How much, in percent, the first two limits vary from process to process, so that not all are replaced
    /// at once.
    pub jitter: u8,
}

impl Recycle {
    /// Reads `recycle = { requests, lifetime, memory, jitter }`.
    pub(crate) fn read(file: &mut Document) -> Self {
        let lifetime = value::duration(Duration::from_secs(1)..=YEAR);
        Self {
            requests: file.optional("recycle.requests", value::integer(1..=i64::MAX)),
            lifetime: file.optional("recycle.lifetime", lifetime),
            memory: file.optional("recycle.memory", value::size(1_000_000..=1 << 50)),
            jitter: file.optional("recycle.jitter", value::percent(0..=100)).unwrap_or(10),
        }
    }
}
