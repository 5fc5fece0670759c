//! All processes beneath this one: their ends are reaped here, and nowhere else.

use std::fs;
use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The children of this process: the daemons, and every orphan beneath them.
#[derive(Debug)]
pub(crate) struct Children {
    changed: Signal,
}

/// The end of one child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) pid: Pid,
    status: WaitStatus,
}

impl Children {
    /// From here on, orphans become children of this process, and none stays a zombie.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { changed: signal(SignalKind::child())? })
    }

    /// The next child that has ended; waits when none has. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&mut self) -> Exit {
        loop {
            // No child at all (ECHILD) is a state like any other: one may come.
            if let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                return Exit { pid, status };
            }
            self.changed.recv().await;
        }
    }

    /// The children that there are now, those among them that have ended and wait to be reaped.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn list(&self) -> io::Result<Vec<Pid>> {
        let me = getpid();
        let pids = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        Ok(pids.filter(|pid| parent(*pid) == Some(me)).collect())
    }
}

impl Exit {
    /// How it ended, for a log: ``exited with 1``, ``killed by signal 9``.
    pub(crate) fn how(self) -> String {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => format!("{:?}", self.status),
        }
    }
}

/// The parent of a process that is still there.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state ppid …`, proc_pid_stat(5); the name may hold anything, parentheses too.
    let (_, after_name) = stat.rsplit_once(") ")?;
    Pid::from_raw(after_name.split(' ').nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The one test that reaps: another would take its children.
    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "reaping is what is tested")]
    async fn a_child_and_its_orphan_are_listed_and_reaped() {
        let mut children = Children::new().unwrap();
        // The shell ends at once and leaves `sleep`, which thereby becomes a child of this process.
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
