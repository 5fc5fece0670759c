//! Divides the available file descriptors between connections, files and frontd itself.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors for listeners, logs, disks and the admin listener.
const RESERVE: u64 = 256;

/// Descriptors per shard: two sockets for each of up to 60 workers.
const PER_SHARD: u64 = 128;

/// How many descriptors may be used for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Client connections.
    pub(crate) connections: usize,
    /// Files that are open for clients: static files and spool files.
    pub(crate) files: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit and divides the descriptors. There are fewer than
    /// `connections` connections if the limit is too low.
    pub(crate) fn new(connections: usize, shards: NonZeroUsize) -> Self {
        let Rlimit { current: soft, maximum: hard } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
        let limit = if raised.is_ok() { hard } else { soft };
        let reserve = RESERVE + PER_SHARD * shards.get() as u64;
        let descriptors = Self::of(limit.unwrap_or(u64::MAX), reserve, connections);
        if descriptors.connections < connections {
            warn!(
                connections = descriptors.connections,
                "limits.connections is more than the open files that are allowed: raise LimitNOFILE"
            );
        }
        descriptors
    }

    /// A quarter is for files, and a reserve for the rest of frontd.
    fn of(limit: u64, reserve: u64, connections: usize) -> Self {
        let files = (limit / 4).min(1 << 16);
        let left = limit - files;
        let left = left.saturating_sub(reserve).max(left / 2).max(1);
        Self { connections: usize::try_from(left).map_or(connections, |left| left.min(connections)), files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_always_left() {
        for (limit, reserve, connections, expected) in [
            (u64::MAX, 384, 10_000, (10_000, 65_536)),
            (65_536, 384, 10_000, (10_000, 16_384)),
            (4096, 256, 10_000, (2816, 1024)),
            (4096, 1280, 10_000, (1792, 1024)),
            (1024, 384, 10_000, (384, 256)),
            (1024, 384, 100, (100, 256)),
            (64, 384, 10_000, (24, 16)),
        ] {
            let Descriptors { connections, files } = Descriptors::of(limit, reserve, connections);
            assert_eq!((connections, files), expected, "{limit}");
        }
    }
}
