//! Reaps all child processes: this is the only place that does.

use std::fs;
use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The children of this process: the daemons, and orphaned descendants.
#[derive(Debug)]
pub(crate) struct Children {
    changed: Signal,
}

/// The exit of a child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) pid: Pid,
    status: WaitStatus,
}

impl Children {
    /// Makes this process the subreaper: orphaned descendants become its children.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { changed: signal(SignalKind::child())? })
    }

    /// Returns the next child that has exited, or waits for one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Exit {
        loop {
            // Having no children (ECHILD) is no error: one may be started later.
            if let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                return Exit { pid, status };
            }
            self.changed.recv().await;
        }
    }

    /// Returns all current children, including those that have exited and aren't reaped yet.
    ///
    /// # Errors
    /// If `/proc` can't be read.
    pub(crate) fn list(&self) -> io::Result<Vec<Pid>> {
        let me = getpid();
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        Ok(pids.filter(|pid| parent(*pid) == Some(me)).collect())
    }
}

impl Exit {
    /// Describes the exit for a log: `exited with 1`, `killed by signal 9`.
    pub(crate) fn how(self) -> String {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => format!("{:?}", self.status),
        }
    }
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state ppid …`, see proc_pid_stat(5). The name may contain anything, even parentheses.
    let (_, after_name) = stat.rsplit_once(") ")?;
    Pid::from_raw(after_name.split(' ').nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The only test that reaps: others would take its children.
    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "reaping is what is tested")]
    async fn a_child_and_its_orphan_are_listed_and_reaped() {
        let mut children = Children::new().unwrap();
        // The shell exits at once and leaves `sleep`, which becomes a child of this process.
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", "sleep 600 & exit 7"]).spawn().unwrap();
        let exit = children.next().await;
        assert_eq!((exit.pid, exit.how().as_str()), (Pid::from_child(&shell), "exited with 7"));
        let orphans = children.list().unwrap();
        assert_eq!(orphans.len(), 1, "{orphans:?}");
        rustix::process::kill_process(orphans[0], rustix::process::Signal::KILL).unwrap();
        let exit = children.next().await;
        assert_eq!((exit.pid, exit.how().as_str()), (orphans[0], "killed by signal 9"));
        assert!(children.list().unwrap().is_empty());
    }
}
