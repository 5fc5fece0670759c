//! Keeps the daemons running, and stops them in order. It is the only owner of their processes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daemon::logging::copy;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::children::{Children, Exit};
use super::listeners::Listeners;
use super::notices::Notices;
use super::restart::Restart;
use super::spawn::spawn;

/// A killed process exits at once, unless it is stuck in the kernel, for example waiting for a disk.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How to run a daemon.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The file that keeps the last lines of its log.
    pub(crate) log_copy: PathBuf,
    /// The sockets that it inherits.
    pub(crate) listeners: Listeners,
    /// The signal for a graceful stop. The daemon also receives it when this process dies.
    pub(crate) stop: Signal,
    pub(crate) succession: Succession,
}

/// When to start the next process of a daemon, if somebody else has told the current one to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// Once it has exited.
    AtEnd,
    /// As soon as it drains: it finishes its requests next to its successor.
    AtDrain,
}

/// The daemons, and the processes that they leave behind.
#[derive(Debug)]
pub(crate) struct Stack {
    children: Children,
    notices: Notices,
    daemons: Vec<Daemon>,
}

#[derive(Debug)]
struct Daemon {
    program: Program,
    restart: Restart,
    state: State,
    /// Previous processes that are still draining.
    draining: Vec<Pid>,
}

/// ```text
/// Down ── the delay is over ──────────▶ Running
///      ◀── it exited or began to drain ──
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    Down { until: Instant },
    Running { pid: Pid, since: Instant },
}

/// What the exit of a process means.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// A daemon is down.
    Daemon { name: &'static str, restart_in: Duration },
    /// A daemon that already has a successor has finished.
    Drained { name: &'static str },
    /// An orphan of some daemon.
    Orphan,
}

impl Stack {
    /// Creates the stack without starting anything.
    ///
    /// # Errors
    /// If the kernel refuses to report exits.
    pub(crate) fn new(programs: Vec<Program>, notices: Notices) -> io::Result<Self> {
        let daemons = programs.into_iter().map(Daemon::new).collect();
        Ok(Self { children: Children::new()?, notices, daemons })
    }

    /// Starts the daemons, and restarts each one that exits, until this future is dropped.
    pub(crate) async fn keep_running(&mut self) -> Infallible {
        loop {
            for daemon in &mut self.daemons {
                daemon.start_if_due(self.notices.path());
            }
            let due = self.daemons.iter().filter_map(Daemon::due).min();
            tokio::select! {
                exit = self.children.next() => self.died(exit),
                pid = self.notices.stopping() => self.drains(pid),
                () = until(due) => {}
            }
        }
    }

    /// Stops a daemon, and waits for at most `limit`. This process closes its copies of the listening
    /// sockets, so that clients are refused once the daemon has closed its own.
    pub(crate) async fn stop(&mut self, name: &str, limit: Duration) {
        let Some(daemon) = self.daemons.iter_mut().find(|it| it.program.name == name) else { return };
        daemon.program.listeners = Listeners::default();
        let mut left = HashSet::from_iter(daemon.draining.iter().copied());
        if let State::Running { pid, .. } = daemon.state {
            info!(daemon = name, "stopping");
            signal(pid, daemon.program.stop);
            left.insert(pid);
        }
        if timeout(limit, self.end_of(left)).await.is_err() {
            warn!(daemon = name, ?limit, "it didn't stop in time, and is killed");
        }
    }

    /// Sends SIGTERM to all orphans, and waits for at most `limit`.
    ///
    /// # Errors
    /// If `/proc` can't be read.
    pub(crate) async fn stop_orphans(&mut self, limit: Duration) -> io::Result<()> {
        timeout(limit, self.stop_children()).await.unwrap_or(Ok(()))
    }

    async fn stop_children(&mut self) -> io::Result<()> {
        let mut asked = HashSet::new();
        loop {
            let left = self.children.list()?;
            if left.is_empty() {
                return Ok(());
            }
            // A process that exits leaves its children to this process: they get the signal next.
            left.into_iter().filter(|pid| asked.insert(*pid)).for_each(|pid| signal(pid, Signal::TERM));
            self.next_end().await;
        }
    }

    /// Kills all remaining processes, and returns when none is left.
    ///
    /// # Errors
    /// If a process survives SIGKILL, or if `/proc` can't be read.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match timeout(KILL_LIMIT, self.kill_all()).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::other(format!("{:?} survived SIGKILL", self.children.list()?))),
        }
    }

    async fn kill_all(&mut self) -> io::Result<()> {
        loop {
            let left = self.children.list()?;
            if left.is_empty() {
                return Ok(());
            }
            left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            self.next_end().await;
        }
    }

    async fn end_of(&mut self, mut left: HashSet<Pid>) {
        while !left.is_empty() {
            left.remove(&self.next_end().await);
        }
    }

    /// Waits for the next process to exit during a stop.
    async fn next_end(&mut self) -> Pid {
        let exit = loop {
            tokio::select! {
                exit = self.children.next() => break exit,
                // Notifications are ignored now, but a full queue would block their senders.
                _ = self.notices.stopping() => {}
            }
        };
        match self.ended(exit.pid) {
            Ended::Daemon { name, .. } => info!(daemon = name, how = exit.how(), "ended"),
            Ended::Drained { name } => info!(daemon = name, how = exit.how(), "drained"),
            Ended::Orphan => debug!(pid = %exit.pid, how = exit.how(), "reaped"),
        }
        exit.pid
    }

    /// A process exited unexpectedly.
    fn died(&mut self, exit: Exit) {
        match self.ended(exit.pid) {
            Ended::Daemon { name, restart_in } => {
                warn!(daemon = name, pid = %exit.pid, how = exit.how(), ?restart_in, "it exited unexpectedly, and is started again");
            }
            Ended::Drained { name } => info!(daemon = name, pid = %exit.pid, how = exit.how(), "drained"),
            Ended::Orphan => debug!(pid = %exit.pid, how = exit.how(), "reaped"),
        }
    }

    /// A process reports that it is draining, without having been told so by this one.
    fn drains(&mut self, pid: Pid) {
        for daemon in &mut self.daemons {
            if daemon.program.succession == Succession::AtDrain {
                daemon.leave_to_next(pid);
            }
        }
    }

    fn ended(&mut self, pid: Pid) -> Ended {
        self.daemons.iter_mut().find_map(|it| it.ended(pid)).unwrap_or(Ended::Orphan)
    }
}

impl Daemon {
    fn new(program: Program) -> Self {
        let state = State::Down { until: Instant::now() };
        Self { program, restart: Restart::default(), state, draining: Vec::new() }
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Down { until } => Some(until),
            State::Running { .. } => None,
        }
    }

    fn start_if_due(&mut self, notices: &Path) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let program = &self.program;
        match program.start(notices) {
            Ok(pid) => {
                info!(daemon = program.name, %pid, "started");
                self.state = State::Running { pid, since: Instant::now() };
            }
            Err(error) => {
                error!(daemon = program.name, program = %program.path.display(), %error, "cannot be started");
                self.down(Duration::ZERO);
            }
        }
    }

    /// If this is the running process of the daemon, its successor is started next to it.
    fn leave_to_next(&mut self, leaving: Pid) {
        if let State::Running { pid, since } = self.state
            && pid == leaving
        {
            let next_in = self.down(since.elapsed());
            info!(daemon = self.program.name, %pid, ?next_in, "drains while the next one starts");
            self.draining.push(pid);
        }
    }

    /// Records the exit of a process, if it belonged to this daemon.
    fn ended(&mut self, ended: Pid) -> Option<Ended> {
        let name = self.program.name;
        if let Some(at) = self.draining.iter().position(|it| *it == ended) {
            self.draining.swap_remove(at);
            return Some(Ended::Drained { name });
        }
        match self.state {
            State::Running { pid, since } if pid == ended => {
                Some(Ended::Daemon { name, restart_in: self.down(since.elapsed()) })
            }
            _ => None,
        }
    }

    /// The process that `ran` for that long accepts nothing new any more. Returns the delay until the next
    /// one.
    fn down(&mut self, ran: Duration) -> Duration {
        let delay = self.restart.delay(ran);
        self.state = State::Down { until: Instant::now() + delay };
        delay
    }
}

impl Program {
    fn start(&self, notices: &Path) -> io::Result<Pid> {
        let sockets = self.listeners.fds();
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        // These variables are meant for this process, not for the daemons.
        for key in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(key);
        }
        command.env("NOTIFY_SOCKET", notices).env(copy::VARIABLE, &self.log_copy);
        if !sockets.is_empty() {
            command
                .env("LISTEN_FDS", sockets.len().to_string())
                .env("LISTEN_FDNAMES", self.listeners.names());
        }
        spawn(command, &sockets, self.stop)
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn signal(pid: Pid, signal: Signal) {
    // The process may have exited already. Its pid isn't reused until it is reaped here.
    let _ended = kill_process(pid, signal);
}
