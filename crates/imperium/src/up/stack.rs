//! Keeps the daemons running, and ends them in order. The one owner of their processes.

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

/// After SIGKILL a process goes at once, unless the kernel holds it in a call to a disk or the like.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How a daemon is run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The file that the last lines of its log are kept in.
    pub(crate) log_copy: PathBuf,
    /// What it is handed to listen on.
    pub(crate) listeners: Listeners,
    /// What makes it end in order; sent to it also when this process dies.
    pub(crate) stop: Signal,
    pub(crate) succession: Succession,
}

/// When the next process of a daemon is started, after one that somebody else told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// Once it has ended.
    AtEnd,
    /// As soon as it says that it takes nothing new: it ends what it has begun beside the next.
    AtDrain,
}

/// The daemons, and whatever processes they leave behind.
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
    /// Its former processes that still end what they have begun.
    draining: Vec<Pid>,
}

/// ```text
/// Down ── its time has come ───────────────▶ Running
///      ◀── it ended, or left it to the next ─
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    Down { until: Instant },
    Running { pid: Pid, since: Instant },
}

/// What it means that a process has ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// A daemon is down.
    Daemon { name: &'static str, restart_in: Duration },
    /// A daemon that had left its work to the next is done.
    Drained { name: &'static str },
    /// It had lost its parent.
    Orphan,
}

impl Stack {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses to tell of ended processes.
    pub(crate) fn new(programs: Vec<Program>, notices: Notices) -> io::Result<Self> {
        let daemons = programs.into_iter().map(Daemon::new).collect();
        Ok(Self { children: Children::new()?, notices, daemons })
    }

    /// Starts the daemons, each again when it has ended, until this future is dropped.
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

    /// Asks a daemon to end, and waits for it, but not longer than `limit`. Nobody is left to wait on its listening
    /// sockets: once it has closed them too, clients are refused.
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
            warn!(daemon = name, ?limit, "it did not end in time and is killed");
        }
    }

    /// Asks every process that has lost its parent to end, and waits for them, but not longer than `limit`.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
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
            // Who ends leaves its own children to this process: they are asked next.
            left.into_iter().filter(|pid| asked.insert(*pid)).for_each(|pid| signal(pid, Signal::TERM));
            self.next_end().await;
        }
    }

    /// Kills whatever is left, and returns when nothing is.
    ///
    /// # Errors
    /// When something outlives SIGKILL, or `/proc` cannot be read.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match timeout(KILL_LIMIT, self.kill_all()).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::other(format!("{:?} outlive SIGKILL", self.children.list()?))),
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

    /// The next process that ends after it was asked to.
    async fn next_end(&mut self) -> Pid {
        let exit = loop {
            tokio::select! {
                exit = self.children.next() => break exit,
                // Nothing follows from it any more, but a queue that is full would hold up who tells it.
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
                warn!(daemon = name, pid = %exit.pid, how = exit.how(), ?restart_in, "died");
            }
            Ended::Drained { name } => info!(daemon = name, pid = %exit.pid, how = exit.how(), "drained"),
            Ended::Orphan => debug!(pid = %exit.pid, how = exit.how(), "reaped"),
        }
    }

    /// A process says that it takes nothing new, though nobody here has told it to end.
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

    /// Where this process is the one that runs, the next is started beside it.
    fn leave_to_next(&mut self, leaving: Pid) {
        if let State::Running { pid, since } = self.state
            && pid == leaving
        {
            let next_in = self.down(since.elapsed());
            info!(daemon = self.program.name, %pid, ?next_in, "drains beside the next");
            self.draining.push(pid);
        }
    }

    /// Notes the end of a process, if it was one of this daemon.
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

    /// It takes nothing any more, after it `ran` for so long; tells for how long it stays down.
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
        // Whatever this process was handed itself is not meant for the daemons.
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
    // It may have ended by now, which is what is wanted; until it is reaped here its pid is no other's.
    let _ended = kill_process(pid, signal);
}
