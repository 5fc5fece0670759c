//! Identifies processes unambiguously, signals them, and reports when and how they exit, by their pidfds.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::readiness;

mod listener;
mod peer;

pub(crate) use peer::PeerProcess;

/// A pid and its start time: unlike a pid alone, both together aren't reused until the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// In clock ticks since boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl Identity {
    /// The process that has this pid now. None if there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: start_time(&stat)? })
    }

    /// Whether the process runs as this user, as its real, effective, saved or file system uid.
    #[must_use]
    pub fn has_user(&self, uid: u32) -> bool {
        self.users().contains(&uid)
    }

    /// Its real, effective, saved and file system uid. Empty if it has exited.
    pub(crate) fn users(&self) -> Vec<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        users.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect()
    }

    /// The pid of its parent.
    pub(crate) fn parent(&self) -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// The time since the process was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        let up = Duration::try_from(now).unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second();
        let started = Duration::from_millis(self.started.saturating_mul(1000) / ticks.max(1));
        up.saturating_sub(started)
    }

    /// Resident memory in bytes; 0 if the process has exited.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        pages.saturating_mul(rustix::param::page_size() as u64)
    }

    /// Private memory, which its exit would free, in bytes. None if it has exited, or if the kernel refuses.
    ///
    /// This walks all pages of the process, which takes about a millisecond per few hundred megabytes.
    #[must_use]
    pub fn private_memory(&self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        private(&rollup)
    }
}

/// Adds the lines `Private_Clean` and `Private_Dirty`, which are in kilobytes (proc_pid_smaps(5)).
fn private(rollup: &str) -> Option<u64> {
    let value = |name: &str| -> Option<u64> {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let kilobytes = value("Private_Clean:")?.checked_add(value("Private_Dirty:")?)?;
    kilobytes.checked_mul(1024)
}

/// Field 22. The second field may contain spaces and parentheses, so counting starts after the last one.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The process that made a call, which exists as long as the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its identity.
    pub identity: Identity,
    /// Its user when it made the connection.
    pub uid: u32,
}

/// A process that is running, or has exited.
#[derive(Debug, Clone)]
pub struct Process {
    identity: Identity,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

/// How a process exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an exit status.
    Status(i32),
    /// Killed by a signal.
    Signal(i32),
    /// It wasn't a child of this process, so the kernel doesn't report it.
    Unknown,
}

impl Process {
    /// Opens the process that has `pid` now.
    ///
    /// # Errors
    /// If there is none, or if the kernel refuses.
    pub fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // Open the pidfd first: if the identity read afterwards is the expected one, the pidfd refers to the
        // same process.
        let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        let identity = Identity::of(pid).ok_or(Errno::SRCH)?;
        let pidfd = readiness::pidfd(pidfd)?;
        Ok(Self { identity, pidfd: Arc::new(pidfd) })
    }

    /// Opens the process with that identity. None if it has exited.
    #[must_use]
    pub fn of(identity: Identity) -> Option<Self> {
        Self::open(identity.pid).ok().filter(|it| it.identity() == identity && !it.has_ended())
    }

    /// Returns its identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it has exited, reaped or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        is_readable(self.pidfd.get_ref())
    }

    /// Whether it is the process of `caller` and has the same user.
    #[must_use]
    pub fn is(&self, caller: Caller) -> bool {
        self.identity == caller.identity && self.identity.has_user(caller.uid) && !self.has_ended()
    }

    /// Sends a signal. If the process has exited, this does nothing.
    pub fn signal(&self, signal: Signal) {
        match pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::error!(pid = self.identity.pid, ?signal, %error, "cannot send signal"),
        }
    }

    /// Waits for its exit, and reaps it if it is a child of this process.
    pub async fn ended(&self) -> Ending {
        // An error means that the runtime is shutting down, together with this task.
        let _ready = self.pidfd.readable().await;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Ending::Status(status),
                (None, Some(signal)) => Ending::Signal(signal),
                (None, None) => Ending::Unknown,
            },
            Ok(None) | Err(_) => Ending::Unknown,
        }
    }
}

/// The names of the signals that usually kill a process (`signal(7)`).
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 15] = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::HUP, "SIGHUP"),
        (Signal::ILL, "SIGILL"),
        (Signal::INT, "SIGINT"),
        (Signal::KILL, "SIGKILL"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::SYS, "SIGSYS"),
        (Signal::TERM, "SIGTERM"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    NAMES.iter().find(|(it, _)| it.as_raw() == signal).map(|(_, name)| *name)
}

/// Whether a descriptor is readable. A pidfd is once its process has exited.
fn is_readable(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            Self::Unknown => f.write_str("ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_after_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2";
        assert_eq!(start_time(stat), Some(4711));
        for torn in ["", "7 (a", "7 (a) S 1"] {
            assert_eq!(start_time(torn), None, "{torn}");
        }
    }

    #[test]
    fn private_memory_excludes_memory_of_others() {
        let rollup =
            "Rss:    900 kB\nShared_Dirty:  100 kB\nPrivate_Clean:   20 kB\nPrivate_Dirty:   300 kB\n";
        assert_eq!(private(rollup), Some(320 * 1024));
        assert_eq!(private("Rss: 1 kB\n"), None);
    }

    #[test]
    fn the_identity_of_this_process() {
        let identity = Identity::of(std::process::id()).unwrap();
        assert!(identity.memory() > 0);
        assert!(identity.private_memory().is_some_and(|it| it > 0 && it < identity.memory()));
        assert!(identity.has_user(rustix::process::geteuid().as_raw()));
        assert!(!identity.has_user(u32::MAX - 1));
        assert_eq!(
            identity.parent(),
            rustix::process::getppid().and_then(|it| it.as_raw_pid().try_into().ok())
        );
        assert!(identity.age() < Duration::from_secs(86_400));
        assert_eq!(Identity::of(u32::MAX), None);
        assert!(Process::open(u32::MAX).is_err());
    }

    #[tokio::test]
    async fn a_running_process_has_not_ended() {
        assert!(!Process::open(std::process::id()).unwrap().has_ended());
    }

    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "it is reaped by its pidfd, which is what is tested")]
    async fn the_exit_of_a_child_is_reported() {
        for (script, ending) in [("exit 3", Ending::Status(3)), ("kill -9 $$", Ending::Signal(9))] {
            let child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let process = Process::open(child.id()).unwrap();
            assert_eq!(process.ended().await, ending);
            assert!(process.has_ended());
            process.signal(Signal::TERM);
        }
    }
}
