//! This process as the operating system sees it: title, terminal, scheduling policy, immediate exit.
#![expect(
    unsafe_code,
    reason = "argv's memory is reachable by address only; `ioctl`, `getsid` and `_exit` are C's"
)]

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use pyo3::prelude::*;

use super::log;

/// Sets what `ps` shows instead of the interpreter's command line. `comm` is the name of the thread.
pub(crate) fn set_title(title: &str, comm: &str) {
    if let Ok(comm) = std::ffi::CString::new(comm) {
        let _cosmetic = rustix::thread::set_name(&comm);
    }
    let Some(area) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(argument_area) else {
        return;
    };
    let text = padded(title, area.len());
    // SAFETY: the kernel's `arg_start` and `arg_end` delimit the memory of the arguments, which is writable
    // and stays mapped as long as the process lives. Python copied the arguments before it ran any code.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), area.start as *mut u8, area.len()) };
}

/// Detaches from the controlling terminal that was inherited, if there is one: an app that prompts for a
/// password fails, instead of being stopped as a background process that reads from a terminal. A session
/// leader keeps its terminal, since detaching would send SIGHUP to its whole foreground process group,
/// including itself.
pub(crate) fn leave_terminal() {
    if leads_its_session() {
        return;
    }
    let Ok(terminal) = File::open("/dev/tty") else { return };
    // SAFETY: TIOCNOTTY takes no argument, and the descriptor is open.
    let _it_stays = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
}

/// Also false if the leader is outside of this PID namespace (`unshare --pid`): then getsid returns 0, which
/// `rustix::process::getsid` considers impossible.
fn leads_its_session() -> bool {
    // SAFETY: has no precondition.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Sets the scheduling policy SCHED_BATCH (sched(7)) for this thread and those it starts. It gets the same
/// share of the processor, but doesn't preempt running threads when it wakes up. So frontd processes
/// everything that has arrived before a worker runs. This doesn't suit the helper, which does I/O, or several
/// threads that wait for each other's GIL. A policy that was set by somebody else is kept.
pub(crate) fn schedule_as_batch(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if os.call_method1("sched_getscheduler", (0,))?.eq(os.getattr("SCHED_OTHER")?)? {
        let no_priority = os.call_method1("sched_param", (0,))?;
        os.call_method1("sched_setscheduler", (0, os.getattr("SCHED_BATCH")?, no_priority))?;
    }
    Ok(())
}

/// Seeds the random generator. A forked process starts with the random state of its template.
pub(crate) fn seed_random() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let pid = u64::from(std::process::id());
    fastrand::seed(pid << 40 ^ now.tv_sec.cast_unsigned() << 30 ^ now.tv_nsec.cast_unsigned());
}

/// Returns how long this process has been running, or zero if unknown.
pub(crate) fn age() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(22 - 3)?.parse::<u64>().ok());
    let Some(ticks) = ticks else { return Duration::ZERO };
    let started =
        Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1));
    let now = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime));
    now.unwrap_or_default().saturating_sub(started)
}

/// Exits at once, without running any cleanup of Python or C, since other threads may be running Python code.
pub(crate) fn exit_now(code: i32) -> ! {
    log::settle_all();
    daemon::logging::flush();
    // SAFETY: has no precondition.
    unsafe { libc::_exit(code) }
}

/// Fields 48 and 49 of proc_pid_stat(5). The name may contain anything, and ends at the last parenthesis.
fn argument_area(stat: &str) -> Option<Range<usize>> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(48 - 3).map(str::parse);
    let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
    (0 < start && start < end).then_some(start..end)
}

/// Returns `title` in exactly `length` bytes, truncated or padded with NUL, and always terminated by one.
fn padded(title: &str, length: usize) -> Vec<u8> {
    let mut text = title.as_bytes()[..title.len().min(length.saturating_sub(1))].to_vec();
    text.resize(length, 0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_area_is_found_after_any_name() {
        let numbers = (4..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        for name in ["python3", "a b", "x) S 1", ") ("] {
            assert_eq!(argument_area(&format!("1 ({name}) S {numbers}")), Some(48..49), "{name}");
        }
        for bad in ["", "1 (x) S 1 2", "1 x S", &format!("1 (x) S {}", ["0"; 60].join(" "))] {
            assert_eq!(argument_area(bad), None, "{bad}");
        }
        let own = argument_area(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.len(), fs::read("/proc/self/cmdline").unwrap().len());
    }

    #[test]
    fn a_title_never_exceeds_its_area() {
        for (title, length, expected) in [
            ("abc", 5, &b"abc\0\0"[..]),
            ("abc", 3, b"ab\0"),
            ("abc", 1, b"\0"),
            ("abc", 0, b""),
            ("", 2, b"\0\0"),
        ] {
            assert_eq!(padded(title, length), expected);
        }
    }
}
