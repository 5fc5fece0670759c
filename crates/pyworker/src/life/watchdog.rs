//! Watches the limits of all running requests. It runs on the I/O runtime, and never waits for Python.

use std::sync::Arc;
use std::time::Duration;

use api::runner::TimedOut;
use api::runner::serve_response::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::state::WorkerState;
use crate::executor::{Host, Interrupt};
use crate::link::active::ActiveRequest;
use crate::link::deadline::Cause;
use crate::link::requests::Rest;

/// How often it checks, and thus how late an exceeded limit may be noticed.
const TICK: Duration = Duration::from_millis(50);
/// The number of checks without running requests after which it sleeps.
const IDLE_TICKS: u32 = 20;
/// How long frontd may take to read pending responses once the remaining requests are stuck.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// What happens to a request that exceeds a limit:
///
/// ```text
///   limit over ─▶ the client gets an error, or is cut off ─▶ stack logged, RequestTimeout raised, once the GIL is available
///   grace over ─▶ stack logged without the GIL ─▶ emperord is told to replace this worker
///        └─ nobody reads the response: its part of the capacity is lost; emperord is told once all of it is
/// ```
pub(crate) struct Watchdog<I> {
    pub(crate) host: Host,
    pub(crate) state: Arc<watch::Sender<WorkerState>>,
    pub(crate) interrupter: I,
    /// How many requests the executor takes at once.
    pub(crate) capacity: usize,
}

impl<I: Interrupt> Watchdog<I> {
    /// Watches until the process exits.
    pub(crate) async fn run(self) {
        let began = Instant::now();
        let mut idle = 0;
        loop {
            if idle >= IDLE_TICKS {
                self.host.requests.occupied().await;
                idle = 0;
            }
            sleep(TICK).await;
            idle = match self.look(began.elapsed()).await {
                Rest::Nothing => idle + 1,
                Rest::Some => 0,
                Rest::OnlyStuck => break,
            };
        }
        tracing::warn!("only requests that can't be interrupted are left");
        self.host.requests.abandon();
        let _overdue = timeout(READ_LIMIT, self.host.requests.all_half_closed()).await;
        self.host.end_asked.notify_one();
    }

    async fn look(&self, now: Duration) -> Rest {
        let look = self.host.requests.look(now);
        for (active, cause) in look.expired {
            let age = active.deadline.age(now);
            match cause {
                Cause::Request => active.session.send(Message::TimedOut(TimedOut { id: active.id })),
                Cause::Idle => active.cut("the app sent nothing for too long"),
                Cause::ClientGone => {}
            }
            self.interrupter.interrupt(active, age);
        }
        for active in look.unread {
            give_client_up(&active);
        }
        for active in look.stuck {
            self.give_up(&active, active.deadline.age(now)).await;
        }
        for active in look.held {
            self.note_held(&active, active.deadline.age(now)).await;
        }
        if look.taken >= self.capacity {
            self.give_worker_up();
        }
        look.rest
    }

    /// Its part of the capacity is lost. The rest keeps serving.
    async fn note_held(&self, active: &ActiveRequest, age: Duration) {
        let why = match active.deadline.cause() {
            Cause::ClientGone => "its client has gone",
            Cause::Idle | Cause::Request => "it sent nothing for too long",
        };
        let stack = self.stack(active).await;
        let (method, path) = (active.method(), active.path());
        let request = active.request_id();
        tracing::warn!(
            method,
            path,
            request,
            ?age,
            why,
            "a response that nobody reads cannot be interrupted: its place is taken until the app's call returns\n{stack}"
        );
    }

    fn give_worker_up(&self) {
        let is_new = self.state.send_if_modified(|state| {
            !state.draining && !state.is_stuck && !std::mem::replace(&mut state.is_held, true)
        });
        if is_new {
            tracing::warn!(
                "requests that cannot be interrupted take all places: requesting a replacement of this worker"
            );
        }
    }

    async fn give_up(&self, active: &ActiveRequest, age: Duration) {
        let stack = self.stack(active).await;
        let (method, path) = (active.method(), active.path());
        let request = active.request_id();
        tracing::error!(
            method,
            path,
            request,
            ?age,
            "a request does not end: this worker is to be replaced\n{stack}"
        );
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.is_stuck, true));
    }

    async fn stack(&self, active: &ActiveRequest) -> String {
        match active.deadline.token() {
            Some(call) if active.deadline.is_to_be_logged() => self.interrupter.stack(call).await,
            _ => "its stack is logged above".to_owned(),
        }
    }
}

/// Gives the app the same error as if its client had gone.
fn give_client_up(active: &ActiveRequest) {
    let (method, path) = (active.method(), active.path());
    tracing::info!(
        method,
        path,
        request = active.request_id(),
        "the client has neither read nor sent anything for too long: its response is cut"
    );
    active.cut("its client neither reads nor sends anything");
    active.cancel();
}
