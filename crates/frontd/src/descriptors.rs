//! How many descriptors this process may have, and what they are kept for.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::warn;

/// For listeners, workers, logs, the disk's and the admin's needs.
const RESERVE: u64 = 256;

/// Where the kernel does not tell.
const USUAL: u64 = 1024;

/// How many descriptors are for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Connections of clients.
    pub(crate) connections: usize,
    /// Files that are open for clients: static ones, and those of the spool.
    pub(crate) files: u64,
}

impl Descriptors {
    /// Raises the soft limit as far as it goes, and shares out what there is: `connections` where there is enough.
    pub(crate) fn new(connections: usize) -> Self {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let (soft, hard) = parse(&limits).unwrap_or((USUAL, USUAL));
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) });
        let descriptors = Self::of(if raised.is_ok() { hard } else { soft }, connections);
        if descriptors.connections < connections {
            warn!(
                connections = descriptors.connections,
                "limits.connections is more than the open files that are allowed: raise LimitNOFILE"
            );
        }
        descriptors
    }

    /// A quarter is for files, and a reserve for the rest of frontd.
    fn of(limit: u64, connections: usize) -> Self {
        let files = (limit / 4).min(1 << 16);
        let left = limit - files;
        let left = left.saturating_sub(RESERVE).max(left / 2).max(1);
        Self { connections: usize::try_from(left).map_or(connections, |left| left.min(connections)), files }
    }
}

/// The soft and the hard limit of open files.
fn parse(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"))?;
    let mut values = line.split_whitespace().map(|it| it.parse().ok());
    Some((values.next()??, values.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             unlimited            unlimited            processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(parse(text), Some((1024, 524_288)));
        assert_eq!(parse(""), None);
        assert!(parse(&fs::read_to_string("/proc/self/limits").unwrap()).is_some());
    }

    #[test]
    fn there_is_always_a_reserve() {
        for (limit, connections, expected) in [
            (65_536, 10_000, (10_000, 16_384)),
            (4096, 10_000, (2816, 1024)),
            (1024, 10_000, (512, 256)),
            (1024, 100, (100, 256)),
            (64, 10_000, (24, 16)),
        ] {
            let Descriptors { connections, files } = Descriptors::of(limit, connections);
            assert_eq!((connections, files), expected, "{limit}");
        }
    }
}
