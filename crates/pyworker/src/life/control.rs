//! Handles emperord's commands and signals, whatever Python is doing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::worker::Spec;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::attach::{Command, DrainOrder};
use super::drain::{Drain, Due};
use super::exit_hooks::ExitHooks;
use super::state::WorkerState;
use crate::executor::Host;
use crate::link::socket::SocketFile;
use crate::python::{drain_hooks, process};

/// The drain time after SIGTERM, until emperord has sent the spec.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Decides when this worker exits.
///
/// ```text
///   starting ──▶ serving ──drain, SIGTERM──▶ draining ──▶ exits normally
///      │            │                           │
///      └────────────┴── stop; drain while starting; deadline, SIGTERM while draining ──▶ exits now
/// ```
///
/// SIGTERM while open WebSockets keep a draining worker only ends their time.
pub(crate) struct Control {
    host: Host,
    state: Arc<watch::Sender<WorkerState>>,
    socket: Arc<OnceLock<SocketFile>>,
    spec: Option<oneshot::Sender<Spec>>,
    exit_hooks: Arc<ExitHooks>,
    /// How long requests in flight may take after SIGTERM.
    grace: Duration,
    drain: Option<Drain>,
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
        Self { host, state, socket, spec: Some(spec), exit_hooks, grace: DEFAULT_GRACE, drain: None }
    }

    /// Handles commands until the process exits.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut terminate = match signal(SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => return tracing::error!(%error, "listen for SIGTERM"),
        };
        let end_asked = Arc::clone(&self.host.end_asked);
        loop {
            let next = self.drain.as_ref().map_or_else(Instant::now, Drain::next);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                _ = terminate.recv() => self.terminate(),
                () = end_asked.notified() => self.terminate(),
                () = sleep_until(next), if self.drain.is_some() => self.go_on(),
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
            Command::Drain(order) => self.drain(order),
            Command::Ended(pid) => self.exit_hooks.add(pid),
            Command::Stop(reason) => {
                tracing::info!(reason, "stopped by emperord");
                self.end_now();
            }
        }
    }

    fn terminate(&mut self) {
        let open = self.host.shutdown.open_sockets();
        match &self.drain {
            None => self.drain(DrainOrder::stop(self.grace)),
            Some(drain) if open > 0 && drain.keeps_sockets() => {
                tracing::info!(sockets = open, "terminated while WebSockets are open: closing them");
                self.drain(DrainOrder::stop(self.grace));
            }
            Some(_) => {
                tracing::warn!("terminated while draining: cutting requests in flight");
                self.end_now();
            }
        }
    }

    /// Does what the drain's times ask for.
    fn go_on(&mut self) {
        let shutdown = &self.host.shutdown;
        let open = shutdown.open_sockets();
        match self.drain.as_mut().and_then(|it| it.due(Instant::now(), open)) {
            None => {}
            Some(Due::CloseSockets) => {
                if open > 0 {
                    tracing::info!(sockets = open, "closing WebSockets");
                }
                shutdown.close_sockets();
            }
            Some(Due::AbortRequests) => {
                let busy = self.host.requests.work().busy;
                tracing::warn!(busy, sockets = open, "drain timed out: only WebSockets keep this worker");
                shutdown.abort_requests();
            }
            Some(Due::End) => {
                tracing::warn!("drain timed out: cutting requests in flight");
                self.end_now();
            }
        }
    }

    fn drain(&mut self, order: DrainOrder) {
        if self.state.borrow().ready.is_none() {
            tracing::info!("stopped before it was ready");
            self.end_now();
        }
        let now = Instant::now();
        if let Some(drain) = &mut self.drain {
            return drain.repeat(now, order, self.grace);
        }
        self.drain = Some(Drain::new(now, order, self.grace));
        let (busy, sockets) = (self.host.requests.work().busy, self.host.shutdown.open_sockets());
        tracing::info!(busy, sockets, grace = ?order.grace, "draining");
        self.state.send_modify(|state| state.draining = true);
        self.host.shutdown.drain();
        self.host.requests.drain();
        drain_hooks::call();
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
