//! Handles emperord's commands and signals, whatever Python is doing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::worker::Spec;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::attach::Command;
use super::exit_hooks::ExitHooks;
use super::state::WorkerState;
use crate::executor::Host;
use crate::link::socket::SocketFile;
use crate::python::process;

/// The drain time after SIGTERM, until emperord has sent the spec.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Decides when this worker exits.
///
/// ```text
///   starting ──▶ serving ──drain, SIGTERM──▶ draining ──▶ exits normally
///      │            │                           │
///      └────────────┴── stop; drain while starting; deadline, SIGTERM while draining ──▶ exits now
/// ```
pub(crate) struct Control {
    host: Host,
    state: Arc<watch::Sender<WorkerState>>,
    socket: Arc<OnceLock<SocketFile>>,
    spec: Option<oneshot::Sender<Spec>>,
    exit_hooks: Arc<ExitHooks>,
    /// How long requests in flight may take after SIGTERM.
    grace: Duration,
    /// When the remaining requests are cut off.
    deadline: Option<Instant>,
}

impl Control {
    /// Creates the control of a starting worker. `spec` receives the first spec. Changes in later ones are
    /// applied.
    pub(crate) fn new(
        host: Host,
        state: Arc<watch::Sender<WorkerState>>,
        socket: Arc<OnceLock<SocketFile>>,
        spec: oneshot::Sender<Spec>,
        exit_hooks: Arc<ExitHooks>,
    ) -> Self {
        Self { host, state, socket, spec: Some(spec), exit_hooks, grace: DEFAULT_GRACE, deadline: None }
    }

    /// Handles commands until the process exits.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut terminate = match signal(SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => return tracing::error!(%error, "listen for SIGTERM"),
        };
        let end_asked = Arc::clone(&self.host.end_asked);
        loop {
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                _ = terminate.recv() => self.terminate(),
                () = end_asked.notified() => self.terminate(),
                () = sleep_until(deadline), if self.deadline.is_some() => {
                    tracing::warn!("drain timed out: cutting requests in flight");
                    self.end_now();
                }
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Run(spec) => {
                self.host.spec.follow(&spec);
                self.grace = grace(&spec);
                if let Some(waiting) = self.spec.take() {
                    let _ending = waiting.send(*spec);
                }
            }
            Command::Drain(grace) => self.drain(grace),
            Command::Ended(pid) => self.exit_hooks.add(pid),
            Command::Stop(reason) => {
                tracing::info!(reason, "stopped by emperord");
                self.end_now();
            }
        }
    }

    fn terminate(&mut self) {
        match self.deadline {
            None => self.drain(self.grace),
            Some(_) => {
                tracing::warn!("terminated while draining: cutting requests in flight");
                self.end_now();
            }
        }
    }

    fn drain(&mut self, grace: Duration) {
        if self.state.borrow().ready.is_none() {
            tracing::info!("stopped before it was ready");
            self.end_now();
        }
        if self.deadline.replace(Instant::now() + grace).is_none() {
            let busy = self.host.requests.work().busy;
            tracing::info!(busy, grace = ?grace, "draining");
            self.state.send_modify(|state| state.draining = true);
            self.host.requests.drain();
        }
    }

    fn end_now(&self) -> ! {
        if let Some(socket) = self.socket.get() {
            socket.remove();
        }
        process::exit_now(0)
    }
}

/// The limit of the app's file (`timeouts.stop`).
fn grace(spec: &Spec) -> Duration {
    match spec.stop_milliseconds {
        0 => DEFAULT_GRACE,
        milliseconds => Duration::from_millis(milliseconds.into()),
    }
}
