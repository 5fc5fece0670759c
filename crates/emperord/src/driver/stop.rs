//! Stops workers, whatever has their numbers.

use std::time::Instant;

use api::{VassalName, WorkerName};
use config::emperord::ConfiguredBy;
use rustix::process::Signal;
use supervise::{DrainCause, Event, Exit, KillCause, TerminateCause};

use super::Driver;
use super::app::{App, Tenure};
use super::crash::with_stack;
use super::developer::Reported;
use crate::launch::Import;
use crate::messages::Command;

impl Driver {
    /// Calls a start off, or sends SIGTERM to its process. Returns the event that the worker is gone, if it is.
    pub(super) fn terminate(
        &mut self,
        name: &VassalName,
        number: u16,
        cause: TerminateCause,
    ) -> Option<Event> {
        let app = self.apps.get_mut(name)?;
        match app.tenures.get_mut(&number) {
            Some(Tenure::Preparing { .. } | Tenure::Forking(_)) | None => return Some(app.call_off(number)),
            Some(Tenure::Ordered(order)) => order.is_cancelled = true,
            Some(Tenure::Running(_) | Tenure::Ending(..)) => app.note_terminated(number, cause),
        }
        let worker = app.worker(number);
        self.stop(worker);
        None
    }

    /// Calls a start off, or sends SIGKILL to its process. Returns the event that the worker is gone, if it is.
    pub(super) fn kill(&mut self, name: &VassalName, number: u16, cause: KillCause) -> Option<Event> {
        if cause == KillCause::StartTimeout {
            self.note_timeout(name, number);
        }
        let app = self.apps.get_mut(name)?;
        let worker = app.worker(number);
        match app.tenures.get_mut(&number) {
            Some(Tenure::Preparing { .. }) | None => return Some(app.call_off(number)),
            Some(Tenure::Forking(_)) => {
                if cause == KillCause::StartTimeout {
                    app.stop_import();
                }
                return Some(app.call_off(number));
            }
            Some(Tenure::Ordered(order)) => {
                order.is_cancelled = true;
                self.stop(worker);
            }
            Some(Tenure::Running(process) | Tenure::Ending(process, _)) => {
                if cause == KillCause::Stubborn {
                    tracing::warn!(%worker, "worker killed: it didn't exit");
                }
                process.process.signal(Signal::KILL);
            }
        }
        None
    }

    /// Has the launcher stop a worker. A service manager would treat a process that exits before it was ready as
    /// failed, so it gets SIGTERM from here only if the manager can't stop it.
    fn stop(&self, worker: WorkerName) {
        let process = self.apps.get(&worker.vassal).and_then(|app| app.worker_process(worker.number));
        let process = process.map(|it| it.process.clone());
        let Some(job) = self.launcher.stop(&worker, process.as_ref()) else { return };
        self.tasks.spawn(async move {
            if let Err(error) = job.await {
                tracing::warn!(%worker, %error, "cannot stop the worker's unit");
                process.iter().for_each(|it| it.signal(Signal::TERM));
            }
        });
    }

    /// Records what a worker was waiting for when its start timed out: its last message, or a hint to the
    /// log.
    fn note_timeout(&mut self, name: &VassalName, number: u16) {
        let Some(app) = self.apps.get(name) else { return };
        let worker = app.worker(number);
        let limit = app.supervisor.limits().start.as_secs_f64();
        let unwell = app.worker_process(number).and_then(|it| it.unwell.clone());
        let stack = self.take_stack(&worker);
        let why = unwell.unwrap_or_else(|| match stack.is_empty() {
            true => "see what its start waits for (its stack is in the log)".to_owned(),
            false => "see what its start waits for".to_owned(),
        });
        let raise = match self.config.configured_by {
            ConfiguredBy::Files => "raise `start` under [timeouts]",
            ConfiguredBy::Options => "raise the limit with `--start-timeout`",
        };
        let what = format!("was not ready within {limit} s: {why}, or {raise}");
        let error = format!("worker {worker} {what}");
        let generation = self.generation_of(&worker).unwrap_or_default();
        let told = with_stack(&error, &stack);
        if self.note_crashed_start(name, generation, told, format!("a worker {what}"), stack) == Reported::No
        {
            tracing::error!(%worker, %error, "worker killed");
        }
    }
}

impl App {
    /// Calls off a start that has no process yet. A fork that is reported anyway is killed.
    fn call_off(&mut self, number: u16) -> Event {
        self.tenures.remove(&number);
        Event::Exited { number, exit: Exit::Orderly }
    }

    /// An import that takes too long is stopped with the start that waits for it.
    fn stop_import(&self) {
        if let Some(template) = self.template.as_ref().filter(|it| it.import == Import::Underway) {
            template.process.signal(Signal::KILL);
        }
    }

    pub(super) fn drain(&mut self, number: u16, cause: DrainCause) {
        let worker = self.worker(number);
        let reason = match cause {
            DrainCause::Superseded => "replaced by a newer version of the app".to_owned(),
            DrainCause::Superfluous | DrainCause::Removed => "no longer needed".to_owned(),
            DrainCause::TooManyKept => {
                "its WebSockets are closed: too many replaced workers have open ones".to_owned()
            }
            DrainCause::Stuck => "replaced: one of its requests does not end".to_owned(),
            DrainCause::Recycled(cause) => format!("recycled: {cause}"),
        };
        tracing::info!(%worker, reason, "worker is drained");
        if let DrainCause::Recycled(_) = cause {
            self.recycled.count += 1;
            self.recycled.last = format!("worker {worker} was {reason}");
        }
        let order = self.supervisor.drain_order(number, Instant::now());
        if let (Some(process), Some(order)) = (self.worker_process_mut(number), order) {
            process.command(&worker, Command::Drain(order));
            process.drain_reason = Some(reason);
        }
    }

    fn note_terminated(&self, number: u16, cause: TerminateCause) {
        let worker = self.worker(number);
        match cause {
            TerminateCause::Superfluous => tracing::info!(%worker, "worker stopped before it was ready"),
            TerminateCause::GraceOver => tracing::warn!(%worker, "worker killed: it didn't stop in time"),
            TerminateCause::Silent => tracing::warn!(%worker, "worker stopped: it doesn't respond"),
        }
    }
}
