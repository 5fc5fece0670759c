//! Watches the limits of all running requests. It runs on the I/O runtime, and never waits for Python.

use std::sync::Arc;
use std::time::Duration;

use api::runner::TimedOut;
use api::runner::serve_response::Message;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::attach::Life;
use crate::link::deadline::Cause;
use crate::link::exchange::Exchange;
use crate::link::exchanges::{Exchanges, Rest};
use crate::python::faulthandler::Dump;
use crate::python::interrupt::Interrupter;

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
///        └─ nobody reads the response: its thread is lost; emperord is told once all threads are
/// ```
pub(crate) struct Watchdog {
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) life: Arc<watch::Sender<Life>>,
    /// Has the same effect as SIGTERM.
    pub(crate) end_asked: Arc<Notify>,
    pub(crate) interrupter: Arc<Interrupter>,
    pub(crate) dump: Arc<Dump>,
    /// The number of threads that run the app.
    pub(crate) threads: usize,
}

impl Watchdog {
    /// Watches until the process exits.
    pub(crate) async fn run(self) {
        let began = Instant::now();
        let mut idle = 0;
        loop {
            if idle >= IDLE_TICKS {
                self.exchanges.occupied().await;
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
        self.exchanges.abandon();
        let _overdue = timeout(READ_LIMIT, self.exchanges.all_half_closed()).await;
        self.end_asked.notify_one();
    }

    async fn look(&self, now: Duration) -> Rest {
        let look = self.exchanges.look(now);
        for (exchange, cause) in look.expired {
            let age = exchange.deadline.age(now);
            match cause {
                Cause::Request => exchange.session.send(Message::TimedOut(TimedOut { id: exchange.id })),
                Cause::Idle => exchange.cut("the app sent nothing for too long"),
                Cause::ClientGone => {}
            }
            self.interrupter.interrupt(exchange, age);
        }
        for exchange in look.unread {
            give_client_up(&exchange);
        }
        for exchange in look.stuck {
            self.give_up(&exchange, exchange.deadline.age(now)).await;
        }
        for exchange in look.held {
            self.note_held(&exchange, exchange.deadline.age(now)).await;
        }
        if look.taken >= self.threads {
            self.give_worker_up();
        }
        look.rest
    }

    /// One thread is lost. The others keep serving.
    async fn note_held(&self, exchange: &Exchange, age: Duration) {
        let why = match exchange.deadline.cause() {
            Cause::ClientGone => "its client has gone",
            Cause::Idle | Cause::Request => "it sent nothing for too long",
        };
        let stack = self.stack(exchange).await;
        let (method, path) = (exchange.method(), exchange.path());
        let request = exchange.request_id();
        tracing::warn!(
            method,
            path,
            request,
            ?age,
            why,
            "a response that nobody reads cannot be interrupted: its thread is taken until the app's call returns\n{stack}"
        );
    }

    fn give_worker_up(&self) {
        let is_new = self.life.send_if_modified(|life| {
            !life.draining && !life.is_stuck && !std::mem::replace(&mut life.is_held, true)
        });
        if is_new {
            tracing::warn!("all threads are stuck: requesting a replacement of this worker");
        }
    }

    async fn give_up(&self, exchange: &Exchange, age: Duration) {
        let stack = self.stack(exchange).await;
        let (method, path) = (exchange.method(), exchange.path());
        let request = exchange.request_id();
        tracing::error!(
            method,
            path,
            request,
            ?age,
            "a request does not end: this worker is to be replaced\n{stack}"
        );
        self.life.send_if_modified(|life| !std::mem::replace(&mut life.is_stuck, true));
    }

    async fn stack(&self, exchange: &Exchange) -> String {
        match exchange.deadline.runner() {
            Some(thread) if exchange.deadline.is_to_be_logged() => self.dump.of(thread).await,
            _ => "its stack is logged above".to_owned(),
        }
    }
}

/// Gives the app the same error as if its client had gone.
fn give_client_up(exchange: &Exchange) {
    let (method, path) = (exchange.method(), exchange.path());
    tracing::info!(
        method,
        path,
        request = exchange.request_id(),
        "the client has neither read nor sent anything for too long: its response is cut"
    );
    exchange.cut("its client neither reads nor sends anything");
    exchange.cancel();
}
