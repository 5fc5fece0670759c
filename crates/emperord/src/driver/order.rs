//! Workers whose processes are started by the service manager.

use std::sync::Arc;
use std::time::Duration;

use api::{VassalName, WorkerName};
use rustix::process::Signal;
use supervise::{Adoption, Event, Exit};
use vassal::Vassal;

use super::Driver;
use super::app::{App, Slot};
use super::event;
use crate::launcher::{Job, JobError};
use crate::process::{Caller, Ending, Process};

/// Identifies an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderId(u64);

/// An order to start a worker, whose process hasn't reported yet.
///
/// ```text
///   underway ──its process asks what to run──▶ an ordinary worker
///     │   └──── failed ────▶ not started
///     └─ no longer wanted ─▶ cancelled ── failed ──▶ gone
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    id: OrderId,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Underway,
    CalledOff,
}

impl Driver {
    /// Records an order, and reports its completion as an event.
    pub(super) fn order(&mut self, worker: WorkerName, job: Job) {
        self.orders.0 += 1;
        let order = self.orders;
        let Some(app) = self.apps.get_mut(&worker.vassal) else { return };
        app.ordered.insert(worker.number, Order { id: order, stage: Stage::Underway });
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let result = job.await;
            if let Some(events) = events.upgrade() {
                let _nobody_left = events.send(event::Event::Ordered { worker, order, result }).await;
            }
        });
    }

    /// Stops a worker, whether its process exists or was only ordered. Uses the service manager if possible,
    /// which would treat a process that exits before it was ready as failed. Otherwise sends SIGTERM.
    pub(super) fn stop(&self, worker: WorkerName) {
        let slot = self.apps.get(&worker.vassal).and_then(|app| app.slots.get(&worker.number));
        let process = slot.map(|it| it.process.clone());
        let terminate = move || process.iter().for_each(|it| it.signal(Signal::TERM));
        let Some(job) = self.launcher.stop(&worker) else { return terminate() };
        self.tasks.spawn(async move {
            if let Err(error) = job.await {
                tracing::warn!(%worker, %error, "cannot stop the worker's unit");
                terminate();
            }
        });
    }

    /// Applies changes in an app's file to the units of its running workers. One after another, once all
    /// drop-ins are written: then the first reload applies to all.
    pub(super) fn change_units(&self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let Some(vassal) = &app.vassal else { return };
        let workers = app.slots.keys().map(|it| app.worker(*it));
        let jobs: Vec<_> =
            workers.filter_map(|worker| Some((self.launcher.change(&worker, vassal)?, worker))).collect();
        self.tasks.spawn(async move {
            for (job, worker) in jobs {
                if let Err(error) = job.await {
                    tracing::warn!(%worker, %error, "cannot change the worker's limits");
                }
            }
        });
    }

    /// Makes the service manager forget the workers of a removed app.
    pub(super) fn forget_units(&self, app: &VassalName) {
        let Some(job) = self.launcher.forget(app) else { return };
        let app = app.clone();
        self.tasks.spawn(async move {
            if let Err(error) = job.await {
                tracing::warn!(%app, %error, "cannot reset its failed units in systemd");
            }
        });
    }

    /// If the order has succeeded, its process has reported or will do so: its start has a limit.
    pub(super) fn order_ended(&mut self, worker: &WorkerName, id: OrderId, result: Result<(), JobError>) {
        let Err(error) = result else { return };
        let Some(app) = self.apps.get_mut(&worker.vassal) else { return };
        let Some(order) = app.ordered.get(&worker.number).copied().filter(|it| it.id == id) else { return };
        app.ordered.remove(&worker.number);
        let number = worker.number;
        match order.stage {
            Stage::CalledOff => self.notify(&worker.vassal, Event::Exited { number, exit: Exit::Orderly }),
            Stage::Underway => {
                self.note_not_started(worker, &error.to_string());
                let event = match error {
                    JobError::Refused(_) => Event::SpawnRefused { number },
                    JobError::Failed(_) => Event::SpawnFailed { number },
                };
                self.notify(&worker.vassal, event);
            }
        }
    }

    /// Accepts a process as a worker that the service manager has started, whether emperord or the operator
    /// asked for it.
    pub(super) fn accept_process(&mut self, worker: &WorkerName, caller: Caller) {
        if self.slot_of(worker, caller.identity).is_some() {
            return;
        }
        let pid = caller.identity.pid;
        let Ok(process) = Process::open(pid) else { return };
        let Some(vassal) = self.ordered_for(worker) else { return };
        if !process.is(caller) || !self.launcher.is_of(&process, worker, &vassal) || !self.is_vacant(worker) {
            return;
        }
        let Some(app) = self.apps.get_mut(&worker.vassal).filter(|it| it.vassal.is_some()) else { return };
        let number = worker.number;
        app.ordered.remove(&number);
        let generation = match app.supervisor.worker(number) {
            Some(ordered) => ordered.generation,
            None => app.supervisor.generation(),
        };
        let fingerprint = app.specs.get(&generation).map(|it| it.process_fingerprint()).unwrap_or_default();
        tracing::info!(%worker, pid, generation, "worker started");
        app.slots.insert(number, Slot::new(process.clone(), fingerprint, None));
        if app.supervisor.worker(number).is_none() {
            let stage = Adoption::Starting;
            self.notify(&worker.vassal, Event::Adopted { number, generation, stage, age: Duration::ZERO });
        }
        self.await_end(worker.clone(), process);
    }

    /// The configuration that the worker was ordered with, or the current one if it wasn't ordered.
    fn ordered_for(&self, worker: &WorkerName) -> Option<Arc<Vassal>> {
        let app = self.apps.get(&worker.vassal)?;
        let ordered = app.supervisor.worker(worker.number).and_then(|it| app.specs.get(&it.generation));
        ordered.or(app.vassal.as_ref()).map(Arc::clone)
    }

    /// Whether no process has the name. The exit of its last process may not have been noticed yet.
    fn is_vacant(&mut self, worker: &WorkerName) -> bool {
        let slot = self.apps.get(&worker.vassal).and_then(|app| app.slots.get(&worker.number));
        let Some(holder) = slot.map(|it| it.process.clone()) else { return true };
        if holder.has_ended() {
            self.gone(worker, Ending::Unknown);
        }
        holder.has_ended()
    }
}

impl App {
    /// Cancels an order, which then soon ends. Returns false if there was none.
    pub(super) fn call_off_order(&mut self, number: u16) -> bool {
        let Some(order) = self.ordered.get_mut(&number) else { return false };
        order.stage = Stage::CalledOff;
        true
    }
}
