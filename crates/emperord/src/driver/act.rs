//! Passes events to supervisors, and carries out their actions.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::VassalName;
use config::emperord::ConfiguredBy;
use rustix::process::Signal;
use supervise::{Action, DrainCause, Event, Exit, KillCause, StartFailure, TerminateCause};
use tokio::time::timeout;

use super::Driver;
use super::app::{App, Slot};
use super::broken::Reported;
use super::event::{self, Command};
use super::prepare::Waiting;
use crate::launcher::{Inquiry, LaunchError, Preload, Prepared, Start};
use crate::process::{Ending, Process};

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
        if action == Action::Publish {
            self.publish(name);
            return None;
        }
        if let Action::Kill { number, cause: KillCause::StartTimeout } = action {
            self.note_timeout(name, number);
        }
        let app = self.apps.get_mut(name)?;
        if let Action::Terminate { number, .. } | Action::Kill { number, .. } = action {
            if app.call_off_preparation(number) || app.call_off_fork(number, action) {
                return Some(Event::Exited { number, exit: Exit::Orderly });
            }
            if app.call_off_order(number) {
                let worker = app.worker(number);
                self.stop(worker);
                return None;
            }
        }
        match action {
            Action::Publish => {}
            Action::Spawn { number, generation } => return self.spawn(name, number, generation),
            Action::Drain { number, cause } => app.drain(number, cause),
            Action::Terminate { number, cause } => {
                app.note_terminated(number, cause);
                let worker = app.worker(number);
                self.stop(worker);
            }
            Action::Kill { number, cause } => app.kill(number, cause),
            Action::GiveUp { failure } => app.gave_up(failure),
            Action::AbandonReload { failure } => app.abandoned_reload(failure),
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
        app.awaited.insert(number, Instant::now());
        let Some(vassal) = app.specs.get(&generation) else {
            tracing::error!(%worker, generation, "cannot start worker: its configuration is no longer known");
            return Some(Event::SpawnRefused { number });
        };
        app.last_start = SystemTime::now();
        let vassal = Arc::clone(vassal);
        self.prepare(name, generation, &vassal, Waiting::Worker(number));
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
        let Some(vassal) = app.specs.get(&generation) else { return Some(Event::SpawnRefused { number }) };
        // The template only has the current generation. Workers of others are started individually.
        let is_current = generation == app.supervisor.generation();
        if vassal.preload.is_on() && is_current && self.launcher.preload() == Preload::Possible {
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
                app.slots.insert(number, Slot::new(process.clone(), fingerprint, None));
                self.await_end(worker, process);
                None
            }
            Err(error) => {
                self.note_not_started(&worker, &error.to_string());
                Some(not_spawned(number, &error))
            }
        }
    }

    /// Records what a worker was waiting for when its start timed out: its last message, or a hint to the
    /// log.
    fn note_timeout(&mut self, name: &VassalName, number: u16) {
        let Some(app) = self.apps.get(name) else { return };
        let worker = app.worker(number);
        let limit = app.supervisor.limits().start.as_secs_f64();
        let unwell = app.slots.get(&number).and_then(|slot| slot.unwell.clone());
        let why =
            unwell.unwrap_or_else(|| "see what its start waits for (its stack is in the log)".to_owned());
        let raise = match self.config.configured_by {
            ConfiguredBy::Files => "raise `start` under [timeouts]",
            ConfiguredBy::Options => "raise the limit with `--start-timeout`",
        };
        let what = format!("was not ready within {limit} s: {why}, or {raise}");
        let error = format!("worker {worker} {what}");
        let generation = self.generation_of(&worker).unwrap_or_default();
        if self.note_failed_start(name, generation, error.clone(), format!("a worker {what}")) == Reported::No
        {
            tracing::error!(%worker, %error, "worker killed");
        }
    }

    /// Reports the exit of a process as an event.
    pub(super) fn await_end(&self, worker: api::WorkerName, process: Process) {
        let events = self.events.clone();
        let inquiry = self.launcher.ending(&worker, process.identity());
        self.tasks.spawn(async move {
            let ending = match (process.ended().await, inquiry) {
                (Ending::Unknown, Some(inquiry)) => answer(inquiry).await,
                (ending, _) => ending,
            };
            if let Some(events) = events.upgrade() {
                let identity = process.identity();
                let _nobody_left = events.send(event::Event::Ended { worker, identity, ending }).await;
            }
        });
    }

    /// Removes the socket of a worker that has exited, in case it hadn't time to do so itself.
    pub(super) fn remove_socket(&self, worker: &api::WorkerName) {
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
    fn drain(&mut self, number: u16, cause: DrainCause) {
        let worker = self.worker(number);
        let reason = match cause {
            DrainCause::Superseded => "replaced by a newer version of the app".to_owned(),
            DrainCause::Superfluous => "no longer needed".to_owned(),
            DrainCause::Stuck => "replaced: one of its requests does not end".to_owned(),
            DrainCause::Recycled(cause) => format!("recycled: {cause}"),
        };
        tracing::info!(%worker, reason, "worker is drained");
        if let DrainCause::Recycled(_) = cause {
            self.recycled.count += 1;
            self.recycled.last = format!("worker {worker} was {reason}");
        }
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.command(&worker, Command::Drain(self.supervisor.limits().grace));
            slot.leaving = Some(reason);
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

    fn kill(&self, number: u16, cause: KillCause) {
        let worker = self.worker(number);
        match cause {
            KillCause::Stubborn => tracing::warn!(%worker, "worker killed: it didn't exit"),
            // The reason was noted earlier.
            KillCause::StartTimeout => {}
        }
        self.signal(number, Signal::KILL);
    }

    fn signal(&self, number: u16, signal: Signal) {
        if let Some(slot) = self.slots.get(&number) {
            slot.process.signal(signal);
        }
    }

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
