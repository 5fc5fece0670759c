//! Workers that are units of the service manager.

use std::sync::Arc;
use std::time::Duration;

use api::{VassalName, WorkerName};
use supervise::{Adoption, Event, Exit};
use vassal::Vassal;

use super::Driver;
use super::app::{Order, Tenure, WorkerProcess};
use crate::launch::{Job, JobError};
use crate::messages::{self, OrderId};
use crate::pidfd::{Caller, Ending, Process};

impl Driver {
    /// Records an order, and reports its completion as an event.
    pub(super) fn order(&mut self, worker: WorkerName, job: Job) {
        self.orders.0 += 1;
        let order = self.orders;
        let Some(app) = self.apps.get_mut(&worker.vassal) else { return };
        app.tenures.insert(worker.number, Tenure::Ordered(Order { id: order, is_cancelled: false }));
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let result = job.await;
            if let Some(events) = events.upgrade() {
                let _nobody_left = events.send(messages::Event::Ordered { worker, order, result }).await;
            }
        });
    }

    /// Applies changes in an app's file to the units of its running workers. One after another, once all
    /// drop-ins are written: then the first reload applies to all.
    pub(super) fn change_units(&self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let Some(vassal) = &app.vassal else { return };
        self.change_units_of(app.worker_processes().map(|(number, _)| app.worker(number)), vassal);
    }

    fn change_units_of(&self, workers: impl Iterator<Item = WorkerName>, vassal: &Vassal) {
        let Some(units) = self.launcher.units() else { return };
        let jobs: Vec<_> = workers.map(|worker| (units.change(&worker, vassal), worker)).collect();
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
        let Some(job) = self.launcher.units().map(|it| it.forget(app)) else { return };
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
        let number = worker.number;
        let is_cancelled = match app.tenures.get(&number) {
            Some(Tenure::Ordered(order)) if order.id == id => order.is_cancelled,
            _ => return,
        };
        app.tenures.remove(&number);
        if is_cancelled {
            return self.notify(&worker.vassal, Event::Exited { number, exit: Exit::Orderly });
        }
        self.note_not_started(worker, &error.to_string());
        let event = match error {
            JobError::Refused(_) => Event::SpawnRefused { number },
            JobError::Failed(_) => Event::SpawnFailed { number },
        };
        self.notify(&worker.vassal, event);
    }

    /// Accepts a process as a worker that the service manager has started, whether emperord or the operator
    /// asked for it.
    pub(super) fn accept_process(&mut self, worker: &WorkerName, caller: Caller) {
        if self.process_of(worker, caller.identity).is_some() {
            return;
        }
        let pid = caller.identity.pid;
        let Ok(process) = Process::open(pid) else { return };
        let Some(vassal) = self.ordered_for(worker) else { return };
        let is_its_unit = self.launcher.units().is_some_and(|it| it.is_of(&process, worker, &vassal));
        if !process.is(caller) || !is_its_unit || !self.is_vacant(worker) {
            return;
        }
        let Some(app) = self.apps.get_mut(&worker.vassal).filter(|it| it.vassal.is_some()) else { return };
        let number = worker.number;
        let generation = match app.supervisor.worker(number) {
            Some(ordered) => ordered.generation,
            None => app.supervisor.generation(),
        };
        let fingerprint =
            app.configurations.get(&generation).map(|it| it.process_fingerprint()).unwrap_or_default();
        tracing::info!(%worker, pid, generation, "worker started");
        // The operator was faster than emperord, which hadn't configured the unit yet.
        let is_unconfigured = app.is_preparing(number, generation);
        app.runs(number, WorkerProcess::new(process.clone(), fingerprint, None));
        if app.supervisor.worker(number).is_none() {
            let stage = Adoption::Starting;
            self.notify(&worker.vassal, Event::Adopted { number, generation, stage, age: Duration::ZERO });
        }
        self.await_end(worker.clone(), process);
        if is_unconfigured {
            self.change_units_of(std::iter::once(worker.clone()), &vassal);
        }
    }

    /// The configuration that the worker was ordered with, or the current one if it wasn't ordered.
    fn ordered_for(&self, worker: &WorkerName) -> Option<Arc<Vassal>> {
        let app = self.apps.get(&worker.vassal)?;
        let ordered =
            app.supervisor.worker(worker.number).and_then(|it| app.configurations.get(&it.generation));
        ordered.or(app.vassal.as_ref()).map(Arc::clone)
    }

    /// Whether no process has the name. The exit of its last process may not have been noticed yet.
    fn is_vacant(&mut self, worker: &WorkerName) -> bool {
        let process = self.apps.get(&worker.vassal).and_then(|app| app.worker_process(worker.number));
        let Some(holder) = process.map(|it| it.process.clone()) else { return true };
        if holder.has_ended() {
            self.gone(worker, Ending::Unknown);
        }
        holder.has_ended()
    }
}
