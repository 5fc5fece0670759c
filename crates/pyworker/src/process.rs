//! This process as the system sees it: its title, terminal, share of the processors, and ending it at once.
#![expect(
    unsafe_code,
    reason = "argv's memory is reachable by address only; `ioctl`, `getsid` and `_exit` are C's"
)]

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use pyo3::prelude::*;

use crate::log;

/// Shown by `ps` from here on, in place of the interpreter's command line; `comm` is the name of the thread.
pub(crate) fn set_title(title: &str, comm: &str) {
    if let Ok(comm) = std::ffi::CString::new(comm) {
        let _cosmetic = rustix::thread::set_name(&comm);
    }
    let Some(area) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(argument_area) else {
        return;
    };
    let text = padded(title, area.len());
    // SAFETY: the kernel's own `arg_start` and `arg_end` bound the memory where it put the arguments, which is
    // writable and stays mapped as long as the process lives. Python has copied them before it ran any code.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), area.start as *mut u8, area.len()) };
}

/// Gives up the terminal of who started this process, if it is in a terminal's session: an app that asks for a
/// password finds none, rather than being stopped as a process in the background that reads from one. Who leads its
/// session keeps it, as all in its foreground, itself first, would be sent SIGHUP.
pub(crate) fn leave_terminal() {
    if leads_its_session() {
        return;
    }
    let Ok(terminal) = File::open("/dev/tty") else { return };
    // SAFETY: TIOCNOTTY takes no argument, and the descriptor is open.
    let _it_stays = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
}

/// Not so either where the leader is outside of this PID namespace, which shows as 0 (`unshare --pid`): an ID that
/// `rustix::process::getsid` takes to be impossible.
fn leads_its_session() -> bool {
    // SAFETY: has no precondition.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Has the kernel treat this thread, and what it starts, as work that computes (sched(7)): it has the same share, but
/// when it is woken it lets who runs go on for the rest of its slice. So frontd deals with all that has come before a
/// worker runs. The helper, which does I/O, is no such thread, nor are several that wait for each other's GIL. Whoever
/// chose another policy for it is obeyed.
pub(crate) fn schedule_as_batch(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if os.call_method1("sched_getscheduler", (0,))?.eq(os.getattr("SCHED_OTHER")?)? {
        let no_priority = os.call_method1("sched_param", (0,))?;
        os.call_method1("sched_setscheduler", (0, os.getattr("SCHED_BATCH")?, no_priority))?;
    }
    Ok(())
}

/// A fork has the random state of what it was forked from: this makes it its own.
pub(crate) fn seed_random() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let pid = u64::from(std::process::id());
    fastrand::seed(pid << 40 ^ now.tv_sec.cast_unsigned() << 30 ^ now.tv_nsec.cast_unsigned());
}

/// For how long this process has run; zero where the kernel does not tell.
pub(crate) fn age() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(22 - 3)?.parse::<u64>().ok());
    let Some(ticks) = ticks else { return Duration::ZERO };
    let started =
        Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1));
    let now = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime));
    now.unwrap_or_default().saturating_sub(started)
}

/// Ends this process now, with nothing of Python's or C's run any more: other threads are amidst of Python.
pub(crate) fn exit_now(code: i32) -> ! {
    log::settle_all();
    daemon::logging::flush();
    // SAFETY: has no precondition.
    unsafe { libc::_exit(code) }
}

/// Fields 48 and 49 of proc_pid_stat(5). The name, which may hold anything, ends at the last parenthesis.
fn argument_area(stat: &str) -> Option<Range<usize>> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(48 - 3).map(str::parse);
    let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
    (0 < start && start < end).then_some(start..end)
}

/// `title` in exactly `length` bytes, cut or filled up with NUL, and always ending in one.
fn padded(title: &str, length: usize) -> Vec<u8> {
    let mut text = title.as_bytes()[..title.len().min(length.saturating_sub(1))].to_vec();
    text.resize(length, 0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_arguments_behind_any_name() {
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
    fn a_title_never_leaves_its_area() {
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
