//! Passes events to supervisors, and carries out their actions.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::{VassalName, WorkerName};
use supervise::{Action, Event, StartFailure};
use tokio::time::timeout;

use super::Driver;
use super::app::{App, Tenure, WorkerProcess};
use crate::launch::{Inquiry, LaunchError, Prepared, Start};
use crate::messages;
use crate::pidfd::{Ending, Process};

/// How long the service manager may take to report how a process exited. Its successor waits for that.
const INQUIRY: Duration = Duration::from_secs(2);

/// How long to wait for messages from a process that has exited, since its last ones may still be in transit.
pub(super) const LINGER: Duration = Duration::from_millis(250);

impl Driver {
    /// Passes an event to the supervisor of an app, and carries out its actions. Events that result are
    /// passed on in turn.
    pub(super) fn notify(&mut self, name: &VassalName, event: Event) {
        self.count_consequences(name, event);
    }

    /// Like `notify`, and returns the number of actions.
    pub(super) fn count_consequences(&mut self, name: &VassalName, event: Event) -> usize {
        let mut events = VecDeque::from([event]);
        let mut done = 0;
        while let Some(event) = events.pop_front() {
            let Some(app) = self.apps.get_mut(name) else { break };
            for action in app.supervisor.handle(event, Instant::now()) {
                done += 1;
                events.extend(self.perform(name, action));
            }
        }
        done
    }

    fn perform(&mut self, name: &VassalName, action: Action) -> Option<Event> {
        match action {
            Action::Publish => self.publish(name),
            Action::Spawn { number, generation } => return self.spawn(name, number, generation),
            Action::Drain { number, cause } => self.apps.get_mut(name)?.drain(number, cause),
            Action::Terminate { number, cause } => return self.terminate(name, number, cause),
            Action::Kill { number, cause } => return self.kill(name, number, cause),
            Action::GiveUp { failure } => self.apps.get_mut(name)?.gave_up(failure),
            Action::AbandonReload { failure } => self.apps.get_mut(name)?.abandoned_reload(failure),
        }
        None
    }

    /// Updates an app in the routing table.
    pub(super) fn publish(&mut self, name: &VassalName) {
        match self.apps.get(name).and_then(App::route) {
            Some(route) => self.routes.put(route),
            None => self.routes.remove(name),
        }
    }

    fn spawn(&mut self, name: &VassalName, number: u16, generation: u64) -> Option<Event> {
        let app = self.apps.get_mut(name)?;
        let worker = app.worker(number);
        app.awaited_since.insert(number, Instant::now());
        let Some(vassal) = app.configurations.get(&generation) else {
            tracing::error!(%worker, generation, "cannot start worker: its configuration is no longer known");
            return Some(Event::SpawnRefused { number });
        };
        app.last_start = SystemTime::now();
        let vassal = Arc::clone(vassal);
        app.tenures.insert(number, Tenure::Preparing { generation });
        self.prepare(name, generation, &vassal);
        None
    }

    /// Starts a worker whose preparation is complete.
    pub(super) fn start_prepared(
        &mut self,
        name: &VassalName,
        number: u16,
        generation: u64,
        prepared: &Prepared,
    ) -> Option<Event> {
        let app = self.apps.get_mut(name)?;
        let worker = app.worker(number);
        let Some(vassal) = app.configurations.get(&generation) else {
            return Some(Event::SpawnRefused { number });
        };
        // The template only has the current generation. Workers of others are started individually.
        let is_current = generation == app.supervisor.generation();
        if vassal.preload.is_on() && is_current && self.launcher.templates().is_some() {
            return self.order_fork(name, number, generation, prepared);
        }
        let fingerprint = vassal.process_fingerprint();
        match self.launcher.start(&worker, vassal, prepared) {
            Ok(Start::Ordered(job)) => {
                tracing::info!(%worker, generation, "worker ordered");
                self.order(worker, job);
                None
            }
            Ok(Start::Done(process)) => {
                let pid = process.identity().pid;
                tracing::info!(%worker, pid, generation, "worker started");
                app.runs(number, WorkerProcess::new(process.clone(), fingerprint, None));
                self.await_end(worker, process);
                None
            }
            Err(error) => {
                self.note_not_started(&worker, &error.to_string());
                Some(not_spawned(number, &error))
            }
        }
    }

    /// Reports the exit of a process as an event.
    pub(super) fn await_end(&self, worker: WorkerName, process: Process) {
        let events = self.events.clone();
        let inquiry = self.launcher.units().map(|it| it.ending(&worker, process.identity()));
        self.tasks.spawn(async move {
            let ending = match (process.ended().await, inquiry) {
                (Ending::Unknown, Some(inquiry)) => answer(inquiry).await,
                (ending, _) => ending,
            };
            if let Some(events) = events.upgrade() {
                let identity = process.identity();
                let _nobody_left = events.send(messages::Event::Ended { worker, identity, ending }).await;
            }
        });
    }

    /// Removes the socket of a worker that has exited, in case it hadn't time to do so itself.
    pub(super) fn remove_socket(&self, worker: &WorkerName) {
        if let Ok(socket) = self.config.worker_socket(worker) {
            let _it_had_time = fs::remove_file(socket);
        }
    }
}

/// The event for a worker whose process couldn't be created.
pub(super) fn not_spawned(number: u16, error: &LaunchError) -> Event {
    match error.may_pass_soon() {
        true => Event::SpawnFailed { number },
        false => Event::SpawnRefused { number },
    }
}

async fn answer(inquiry: Inquiry) -> Ending {
    timeout(INQUIRY, inquiry).await.unwrap_or(Ending::Unknown)
}

impl App {
    fn gave_up(&self, failure: StartFailure) {
        let app = &self.name;
        if self.broken.is_some() {
            return tracing::info!(%app, ?failure, "app given up until its files change");
        }
        tracing::error!(
            %app, ?failure,
            "app failed: it is retried when its code or its file changes, or on a reload"
        );
    }

    fn abandoned_reload(&mut self, failure: StartFailure) {
        let app = &self.name;
        self.abandoned_error.clone_from(&self.worker_error);
        if self.broken.is_some() {
            return tracing::info!(%app, ?failure, "reload abandoned: the previous version keeps serving");
        }
        let next = match failure {
            StartFailure::NeedsEdit => "the new one is tried again when its files change",
            _ => "the new one is retried",
        };
        tracing::error!(%app, ?failure, "reload failed: the old version keeps serving, and {next}");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_service_manager_does_not_hide_an_exit() {
        assert_eq!(answer(Box::pin(ready(Ending::Status(3)))).await, Ending::Status(3));
        assert_eq!(answer(Box::pin(pending())).await, Ending::Unknown);
    }
}
