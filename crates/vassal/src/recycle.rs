//! When a process of an app has done enough and is replaced by a fresh one.

use std::time::Duration;

use config::{Document, value};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What a process may do before it is replaced; None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recycle {
    /// How many requests it answers.
    pub requests: Option<u64>,
    /// How long it lives.
    pub lifetime: Option<Duration>,
    /// Its private memory, in bytes.
    pub memory: Option<u64>,
    /// By how much of themselves, in percent, the first two differ from process to process, so that not all
    /// are replaced at once.
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
