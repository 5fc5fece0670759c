//! Decides which memory of a worker counts for `recycle.memory`.

use std::time::{Duration, Instant};

use crate::messages::Load;

/// How often the private memory of a worker is read.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The private memory of a worker, as read by emperord.
#[derive(Debug, Default)]
pub(crate) struct PrivateMemory {
    /// When it was last read, and the number of bytes.
    last: Option<(Instant, Option<u64>)>,
}

impl PrivateMemory {
    /// Returns the bytes that count, the first of these that is known:
    ///
    /// 1. resident memory, if it is within the limit
    /// 2. private memory as measured by the worker, if the figure is plausible
    /// 3. private memory as returned by `read`, which the kernel refuses for processes of other users unless
    ///    emperord has `CAP_SYS_PTRACE`
    /// 4. resident memory
    ///
    /// A worker that reports wrong figures affects only its own recycling.
    pub(crate) fn counted(
        &mut self,
        load: Load,
        limit: Option<u64>,
        now: Instant,
        read: impl FnOnce() -> Option<u64>,
    ) -> u64 {
        let Load { memory: resident, private, .. } = load;
        if limit.is_none_or(|it| resident <= it) {
            return resident;
        }
        if (1..=resident).contains(&private) {
            return private;
        }
        match self.last.filter(|(at, _)| now.duration_since(*at) < READ_EVERY) {
            Some((_, bytes)) => bytes,
            None => self.last.insert((now, read())).1,
        }
        .map_or(resident, |it| it.min(resident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(memory: u64, private: u64) -> Load {
        Load { memory, private, ..Load::default() }
    }

    #[test]
    fn a_plausible_figure_of_the_worker_takes_precedence() {
        for (resident, private, limit, read, counted) in [
            (90, 0, None, Some(7), 90),
            (90, 50, Some(100), Some(7), 90),
            (110, 50, Some(100), Some(7), 50),
            (110, 110, Some(100), Some(7), 110),
            (110, 0, Some(100), Some(7), 7),
            (110, 111, Some(100), Some(7), 7),
            (110, u64::MAX, Some(100), Some(7), 7),
            (110, u64::MAX, Some(100), None, 110),
            (110, 0, Some(100), Some(120), 110),
        ] {
            let mut memory = PrivateMemory::default();
            let given = memory.counted(load(resident, private), limit, Instant::now(), || read);
            assert_eq!(given, counted, "{resident} {private} {limit:?} {read:?}");
        }
    }

    #[test]
    fn private_memory_is_not_read_each_time() {
        let (mut memory, began, mut reads) = (PrivateMemory::default(), Instant::now(), 0);
        for second in 0..=6 {
            let read = || {
                reads += 1;
                None
            };
            let now = began + Duration::from_secs(second);
            assert_eq!(memory.counted(load(110, 0), Some(100), now, read), 110);
        }
        assert_eq!(reads, 2, "also if reading is refused");
    }
}
