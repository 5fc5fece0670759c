//! A server process that is stopped on drop with all its children.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::tests::process::{self, Process};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

/// The variable in the environment of every process of a server, with its folder. It finds processes that
/// were reparented.
const MARK: &str = "BENCH_STACK";
/// The time for a graceful exit.
const TIMEOUT: Duration = Duration::from_secs(10);
const LINES: usize = 30;

/// A running server. All of its processes are stopped on drop.
#[derive(Debug)]
pub(crate) struct Guard {
    name: String,
    child: Child,
    log: PathBuf,
    mark: String,
}

impl Guard {
    /// Starts a server whose files are in `folder`, with its log there.
    pub(crate) fn start(name: &str, command: &Command, folder: &Path) -> anyhow::Result<Self> {
        let mut command = with_parent_death_signal(command);
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.env(MARK, folder).process_group(0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, mark: format!("{MARK}={}", folder.display()) })
    }

    /// The pid of its main process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All of its processes.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut all = Process::descendants(self.pid());
        all.extend(Process::of(self.pid()));
        all
    }

    /// Checks that it is running. The error contains the end of its log.
    pub(crate) fn check_running(&self) -> anyhow::Result<()> {
        ensure!(Process::of(self.pid()).is_some(), "{} has ended:\n{}", self.name, self.last_lines());
        Ok(())
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub(crate) fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let known = self.processes();
        let _it_may_have_ended = process::signal(self.pid(), Signal::TERM);
        let _orderly = process::ends(self.pid(), TIMEOUT);
        // The main process isn't reaped yet, so the process group's id can't have been reused.
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _nobody_may_be_left = kill_process_group(group, Signal::KILL);
        }
        let left = known.into_iter().filter(Process::is_running).chain(Process::with_environment(&self.mark));
        for process in left {
            let _it_may_end_meanwhile = process::signal(process.pid, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// Wraps the command so that the kernel stops it if this process is killed.
fn with_parent_death_signal(command: &Command) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
    tied.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    tied.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    tied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ignores_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "setsid sleep 600 & sleep 600 & echo both; wait"]);
        let guard = Guard::start("shell", &shell, folder.path()).unwrap();
        while guard.processes().len() < 3 {
            guard.check_running().unwrap();
            std::thread::yield_now();
        }
        let processes = guard.processes();
        drop(guard);
        assert!(processes.iter().all(|process| !process.is_running() || process::ends(process.pid, TIMEOUT)));
    }

    #[test]
    fn a_server_that_exited_reports_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo no such app; exit 3"]);
        let guard = Guard::start("shell", &shell, folder.path()).unwrap();
        assert!(process::ends(guard.pid(), TIMEOUT));
        let error = guard.check_running().unwrap_err().to_string();
        assert_eq!(error, "shell has ended:\nno such app");
    }
}
