//! Keeps the daemons running, and ends them in order. The one owner of their processes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::children::{Children, Exit};
use super::listeners::Listeners;
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
    /// What it is handed to listen on.
    pub(crate) listeners: Listeners,
    /// What makes it end in order; sent to it also when this process dies.
    pub(crate) stop: Signal,
}

/// The daemons, and whatever processes they leave behind.
#[derive(Debug)]
pub(crate) struct Stack {
    children: Children,
    daemons: Vec<Daemon>,
}

#[derive(Debug)]
struct Daemon {
    program: Program,
    restart: Restart,
    state: State,
}

/// ```text
/// Down ── its time has come ──▶ Running
///      ◀── it ended ───────────
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    Down { until: Instant },
    Running { pid: Pid, since: Instant },
}

impl Stack {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses to tell of ended processes.
    pub(crate) fn new(programs: Vec<Program>) -> io::Result<Self> {
        let down = State::Down { until: Instant::now() };
        let daemon = |program| Daemon { program, restart: Restart::default(), state: down };
        Ok(Self { children: Children::new()?, daemons: programs.into_iter().map(daemon).collect() })
    }

    /// Starts the daemons, each again when it has ended, until this future is dropped.
    pub(crate) async fn keep_running(&mut self) -> Infallible {
        loop {
            for daemon in &mut self.daemons {
                daemon.start_if_due();
            }
            let due = self.daemons.iter().filter_map(Daemon::due).min();
            tokio::select! {
                exit = self.children.next() => self.died(exit),
                () = until(due) => {}
            }
        }
    }

    /// Asks a daemon to end, and waits for it, but not longer than `limit`. Nobody is left to wait on its listening
    /// sockets: once it has closed them too, clients are refused.
    pub(crate) async fn stop(&mut self, name: &str, limit: Duration) {
        let Some(daemon) = self.daemons.iter_mut().find(|it| it.program.name == name) else { return };
        daemon.program.listeners = Listeners::default();
        let State::Running { pid, .. } = daemon.state else { return };
        info!(daemon = name, "stopping");
        signal(pid, daemon.program.stop);
        if timeout(limit, self.end_of(pid)).await.is_err() {
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

    async fn end_of(&mut self, pid: Pid) {
        while self.next_end().await != pid {}
    }

    /// The next process that ends after it was asked to.
    async fn next_end(&mut self) -> Pid {
        let exit = self.children.next().await;
        match self.ended(exit) {
            Some((daemon, _)) => info!(daemon, how = exit.how(), "ended"),
            None => debug!(pid = %exit.pid, how = exit.how(), "reaped"),
        }
        exit.pid
    }

    /// A process ended unasked.
    fn died(&mut self, exit: Exit) {
        match self.ended(exit) {
            Some((daemon, restart_in)) => {
                warn!(daemon, pid = %exit.pid, how = exit.how(), ?restart_in, "died");
            }
            None => debug!(pid = %exit.pid, how = exit.how(), "reaped"),
        }
    }

    /// Notes the end of a daemon; tells its name, and when its next start is due.
    fn ended(&mut self, exit: Exit) -> Option<(&'static str, Duration)> {
        self.daemons.iter_mut().find_map(|daemon| match daemon.state {
            State::Running { pid, since } if pid == exit.pid => {
                Some((daemon.program.name, daemon.down(since.elapsed())))
            }
            _ => None,
        })
    }
}

impl Daemon {
    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Down { until } => Some(until),
            State::Running { .. } => None,
        }
    }

    fn start_if_due(&mut self) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let program = &self.program;
        match program.start() {
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

    /// It has ended after it `ran` for so long; tells for how long it stays down.
    fn down(&mut self, ran: Duration) -> Duration {
        let delay = self.restart.delay(ran);
        self.state = State::Down { until: Instant::now() + delay };
        delay
    }
}

impl Program {
    fn start(&self) -> io::Result<Pid> {
        let sockets = self.listeners.fds();
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        // Whatever this process was handed itself is not meant for the daemons.
        for key in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(key);
        }
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
