//! Measures this process's memory, and how much of it is private (`recycle.memory`).

use std::fs;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

/// How often private memory is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(5);

/// Returns the resident memory in bytes, or 0 if unknown.
pub(crate) fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Measures the memory that isn't shared with other processes.
///
/// The worker measures its own: for another user's process, the kernel requires `CAP_SYS_PTRACE`.
#[derive(Debug, Default)]
pub(crate) struct PrivateMemory {
    last: Option<(Instant, u64)>,
}

impl PrivateMemory {
    /// Returns the private memory in bytes if `resident` exceeds the limit. Otherwise, and if it is unknown,
    /// returns 0.
    ///
    /// The kernel walks all pages for this, which takes about a millisecond per few hundred megabytes. So it
    /// runs on another thread, which delays no request, and only every `MEASURED_EVERY`.
    pub(crate) async fn where_over(&mut self, limit: u64, resident: u64) -> u64 {
        if limit == 0 || resident <= limit {
            return 0;
        }
        match self.last.filter(|(at, _)| at.elapsed() < MEASURED_EVERY) {
            Some((_, bytes)) => bytes,
            None => {
                let bytes = spawn_blocking(measure).await.ok().flatten().unwrap_or_default();
                self.last.insert((Instant::now(), bytes)).1
            }
        }
    }
}

fn measure() -> Option<u64> {
    private(&fs::read_to_string("/proc/self/smaps_rollup").ok()?)
}

/// Adds the lines `Private_Clean` and `Private_Dirty`, which are in kilobytes (proc_pid_smaps(5)).
fn private(rollup: &str) -> Option<u64> {
    let value = |name: &str| -> Option<u64> {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    value("Private_Clean:")?.checked_add(value("Private_Dirty:")?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_excludes_shared_pages() {
        let rollup =
            "Rss:    900 kB\nShared_Dirty:  100 kB\nPrivate_Clean:   20 kB\nPrivate_Dirty:   300 kB\n";
        assert_eq!(private(rollup), Some(320 * 1024));
        for torn in
            ["", "Private_Clean: 1 kB\n", "Private_Clean: 1 kB\nPrivate_Dirty: 18446744073709551615 kB\n"]
        {
            assert_eq!(private(torn), None, "{torn}");
        }
    }

    #[tokio::test]
    async fn private_memory_is_measured_only_above_the_limit() {
        let (mut memory, resident) = (PrivateMemory::default(), resident());
        assert!(resident > 100_000);
        assert_eq!(memory.where_over(0, resident).await, 0);
        assert_eq!(memory.where_over(resident, resident).await, 0);
        let private = memory.where_over(1, resident).await;
        assert!((1..=resident).contains(&private), "{private} of {resident}");
    }
}
