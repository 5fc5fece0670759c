//! Processes as shown under `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A process, identified by pid and start time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// The first 15 bytes of its program's name.
    pub command: String,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// The device of its controlling terminal; 0 if it has none.
    pub terminal: i32,
    /// Its scheduling policy: 0 is the default, 3 is SCHED_BATCH (sched(7)).
    pub policy: u32,
    parent: u32,
    started: u64,
    state: char,
}

impl Process {
    /// The process with that pid. None if it doesn't exist or has exited.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may contain any byte: the last parenthesis ends it.
        let (head, tail) = stat.rsplit_once(')')?;
        let command = head.split_once('(')?.1.to_owned();
        let fields: Vec<_> = tail.split_whitespace().collect();
        let state = fields.first()?.chars().next()?;
        let process = Self {
            pid,
            command,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            terminal: fields.get(4)?.parse().ok()?,
            policy: fields.get(38)?.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            state,
        };
        (!"ZX".contains(state)).then_some(process)
    }

    /// Whether it is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// All descendants, as far as they haven't been reparented.
    #[must_use]
    pub fn descendants(pid: u32) -> Vec<Self> {
        let all = all();
        let mut found: Vec<Self> = Vec::new();
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            let children = all.iter().filter(|it| it.parent == parent);
            parents.extend(children.clone().map(|it| it.pid));
            found.extend(children.cloned());
        }
        found
    }

    /// All processes that were started with this entry in their environment.
    #[must_use]
    pub fn with_environment(entry: &str) -> Vec<Self> {
        let has = |it: &Self| {
            let environment = fs::read(format!("/proc/{}/environ", it.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|each| each == entry.as_bytes())
        };
        all().into_iter().filter(has).collect()
    }
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Process::of).collect()
}

/// Sends a signal.
///
/// # Errors
/// If there is no such process.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    rustix::process::kill_process(number(pid)?, signal).with_context(|| format!("send {signal:?} to {pid}"))
}

/// Waits for the process to exit. Returns false if it is still running after `timeout`.
#[must_use]
pub fn ends(pid: u32, timeout: Duration) -> bool {
    let Ok(fd) = number(pid).and_then(|pid| Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    else {
        return true;
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).ok();
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// A value of `/proc/PID/status` in bytes, such as `VmRSS`, or `VmHWM`, its maximum so far.
///
/// # Errors
/// If there is no such process.
pub fn memory(pid: u32, figure: &str) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("status of {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let kibibytes: u64 =
        line.and_then(|it| it.trim().strip_suffix(" kB")).context("a figure in kB")?.parse()?;
    Ok(kibibytes * 1024)
}

/// The proportional set size in bytes: private pages, and a share of shared ones.
///
/// # Errors
/// If there is no such process.
pub fn pss(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes: u64 =
        line.and_then(|it| it.trim().strip_suffix(" kB")).context("a figure in kB")?.trim().parse()?;
    Ok(kibibytes * 1024)
}

fn number(pid: u32) -> anyhow::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}
