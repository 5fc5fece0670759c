//! Handles workers' messages and exits.

use std::sync::Arc;
use std::time::Instant;

use api::{Endpoint, VassalName, WorkerName};
use config::emperord::ConfiguredBy;
use supervise::{Event, Exit, Stage, Usage};

use super::Driver;
use super::act::LINGER;
use super::app::{Attachment, WorkerProcess};
use super::crash::with_stack;
use super::developer::Reported;
use crate::messages::{self, Attaching, AttachmentId, Command, Load, Served, SpecError, Taking};
use crate::pidfd::{Caller, Ending, Identity};
use crate::spec::{Failure, Reason, WorkerSpec};
use crate::state::Serving;

impl Driver {
    /// Returns what a worker runs, if the caller is that worker's process.
    pub(super) fn spec_for(&self, worker: &WorkerName, caller: Caller) -> Result<WorkerSpec, SpecError> {
        let known = self.apps.get(&worker.vassal).and_then(|app| app.worker_process(worker.number));
        let process = &known.ok_or_else(|| SpecError::NotWanted(worker.clone()))?.process;
        match process.identity() {
            holder if holder != caller.identity => Err(SpecError::Taken {
                worker: worker.clone(),
                holder: holder.pid,
                asked: caller.identity.pid,
            }),
            _ if !process.is(caller) => Err(SpecError::User { worker: worker.clone(), uid: caller.uid }),
            _ => self.spec(worker),
        }
    }

    fn spec(&self, worker: &WorkerName) -> Result<WorkerSpec, SpecError> {
        let not_wanted = || SpecError::NotWanted(worker.clone());
        let app = self.apps.get(&worker.vassal).ok_or_else(not_wanted)?;
        let generation = app.supervisor.worker(worker.number).ok_or_else(not_wanted)?.generation;
        let vassal = app.configurations.get(&generation).map(Arc::clone).ok_or_else(not_wanted)?;
        let socket = self.config.worker_socket(worker)?;
        Ok(WorkerSpec { number: worker.number, generation, vassal, socket, mode: self.config.mode })
    }

    /// A worker that has no number any more is told to exit. One that should drain is told again, since the
    /// command may have been lost with the previous stream.
    pub(super) fn attach(&mut self, attaching: Attaching) {
        let is_known = self.process_of(&attaching.worker, attaching.caller.identity).is_some();
        let attaching = match is_known || self.take_over(&attaching) {
            true => Some(attaching),
            false => self.keep_early(attaching),
        };
        let Some(Attaching { worker, caller, served, taking, attachment, commands }) = attaching else {
            return;
        };
        let pid = caller.identity.pid;
        let process = self.process_of(&worker, caller.identity).filter(|it| it.process.is(caller));
        let Some(process) = process else { return self.dismiss(&worker, pid, served.is_some(), &commands) };
        process.attachment = Some(Attachment { id: attachment, commands });
        process.has_attached = true;
        tracing::debug!(%worker, pid, "worker attached");
        let number = worker.number;
        self.notify(&worker.vassal, Event::Attached { number });
        match (taking, self.stage_of(&worker), served) {
            (Taking::NothingMore, _, _) => self.notify(&worker.vassal, Event::Draining { number }),
            (Taking::Requests, Some(Stage::Draining(_)), _) => self.repeat_drain(&worker),
            (Taking::Requests, _, Some(served)) => {
                self.repeat_spec(&worker);
                self.serves(&worker, served);
            }
            (Taking::Requests, _, None) => self.send_spec(&worker),
        }
    }

    pub(super) fn ready(&mut self, worker: &WorkerName, id: AttachmentId, served: Served) {
        if self.attached(worker, id).is_some() {
            let Served { capacity, python, interface, event_loop, .. } = &served;
            let awaited = self.app_of(worker).and_then(|app| app.awaited_since.remove(&worker.number));
            let after = awaited.map(|it| it.elapsed().as_millis());
            let (interface, event_loop) = (interface.as_str(), Some(event_loop).filter(|it| !it.is_empty()));
            tracing::info!(
                %worker, after_ms = after, capacity, python, interface, r#loop = event_loop, "worker is ready"
            );
            self.serves(worker, served);
        }
    }

    pub(super) fn failed(&mut self, worker: &WorkerName, id: AttachmentId, failure: &Failure) {
        let Some(process) = self.attached(worker, id) else { return };
        process.failure = Some(failure.clone());
        let generation = self.generation_of(worker).unwrap_or_default();
        if self.tell_developer(&worker.vassal, generation, failure) == Reported::No {
            // The worker has already logged the traceback to the same stderr.
            let Failure { reason, message, .. } = failure;
            tracing::error!(%worker, ?reason, "worker cannot run its app: {message}");
        }
        if let Some(app) = self.app_of(worker) {
            app.worker_error = Some(failure.describe(&format!("worker {worker}")));
        }
    }

    /// Records the load of a worker. Returns the number of actions that follow from it.
    pub(super) fn load(&mut self, worker: &WorkerName, id: AttachmentId, load: Load) -> usize {
        let Some(process) = self.attached(worker, id) else { return 0 };
        let has_other_sockets = process.load.sockets != load.sockets;
        process.load = load;
        let number = worker.number;
        let mut done = 0;
        if has_other_sockets {
            let open = load.sockets;
            done += self.count_consequences(&worker.vassal, Event::Sockets { number, open });
        }
        let Some(app) = self.app_of(worker) else { return done };
        let recycle = app.supervisor.limits().recycle;
        if !recycle.depends_on_usage() {
            return done;
        }
        let Some(process) = app.worker_process_mut(number) else { return done };
        let memory = process.counted_memory(recycle.memory, Instant::now());
        let usage = Usage { requests: load.requests, memory };
        done += self.count_consequences(&worker.vassal, Event::Used { number, usage });
        let app = self.apps.get(&worker.vassal);
        done + usize::from(app.is_some_and(|it| it.supervisor.demand(Instant::now()).is_some()))
    }

    /// A starting worker isn't ready yet. This becomes the reason if it never is.
    pub(super) fn unwell(&mut self, worker: &WorkerName, id: AttachmentId, message: String) {
        if let Some(process) = self.attached(worker, id) {
            tracing::warn!(%worker, "worker is not ready yet: {message}");
            process.unwell = Some(message);
        }
    }

    pub(super) fn stuck(&mut self, worker: &WorkerName, id: AttachmentId) {
        if self.attached(worker, id).is_some() {
            self.notify(&worker.vassal, Event::Stuck { number: worker.number });
        }
    }

    pub(super) fn held(&mut self, worker: &WorkerName, id: AttachmentId) {
        if self.attached(worker, id).is_some() {
            self.notify(&worker.vassal, Event::Held { number: worker.number });
        }
    }

    pub(super) fn draining(&mut self, worker: &WorkerName, id: AttachmentId) {
        if self.attached(worker, id).is_some() {
            self.notify(&worker.vassal, Event::Draining { number: worker.number });
        }
    }

    /// The process is watched with its pidfd. If it lives on, it will attach again.
    pub(super) fn detached(&mut self, worker: &WorkerName, id: AttachmentId) {
        let Some(process) = self.attached(worker, id) else { return };
        process.attachment = None;
        match self.app_of(worker).and_then(|app| app.ending(worker.number)) {
            Some(ending) => self.gone(worker, ending),
            None => self.notify(&worker.vassal, Event::Detached { number: worker.number }),
        }
    }

    /// Handles the exit of a process. If it was starting, its last messages may contain the reason, so they
    /// are awaited.
    pub(super) fn ended(&mut self, worker: &WorkerName, identity: Identity, ending: Ending) {
        let is_starting = matches!(self.stage_of(worker), Some(Stage::Starting { .. }));
        let Some(process) = self.process_of(worker, identity) else { return };
        if !is_starting || process.attachment.is_none() || process.failure.is_some() {
            return self.gone(worker, ending);
        }
        if let Some(app) = self.app_of(worker) {
            app.is_ending(worker.number, ending);
        }
        let (events, worker) = (self.events.clone(), worker.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(LINGER).await;
            if let Some(events) = events.upgrade() {
                let _nobody_left = events.send(messages::Event::Lingered { worker, identity }).await;
            }
        });
    }

    pub(super) fn lingered(&mut self, worker: &WorkerName, identity: Identity) {
        let is_its = self.process_of(worker, identity).is_some();
        let ending = self.app_of(worker).and_then(|app| app.ending(worker.number));
        if let Some(ending) = ending.filter(|_| is_its) {
            self.gone(worker, ending);
        }
    }

    /// A worker is reached at the socket that emperord assigned to it, and nowhere else.
    fn serves(&mut self, worker: &WorkerName, served: Served) {
        // A worker whose socket path is too long isn't told what to run.
        let Ok(socket) = self.config.worker_socket(worker) else { return };
        let Served { instance, capacity, python, interface, event_loop } = served;
        let endpoint = Endpoint::Unix(socket);
        let serving = Serving { instance, endpoint, capacity, python, interface, event_loop };
        let Some(process) = self.worker_process(worker) else { return };
        process.serving = Some(serving);
        let generation = self.generation_of(worker);
        if let Some(app) = self.app_of(worker).filter(|app| generation == Some(app.supervisor.generation())) {
            app.broken = None;
        }
        self.notify(&worker.vassal, Event::Ready { number: worker.number });
        self.keep_proven(&worker.vassal);
        // One that was already ready may have another capacity now.
        self.publish(&worker.vassal);
    }

    /// Sends the workers of an app changes of their spec that don't require a restart.
    pub(super) fn repeat_specs(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let attached = app.worker_processes().filter(|(_, it)| it.attachment.is_some());
        let workers: Vec<_> = attached.map(|(number, _)| app.worker(number)).collect();
        for worker in workers {
            self.repeat_spec(&worker);
        }
    }

    fn repeat_spec(&mut self, worker: &WorkerName) {
        if let (Ok(spec), Some(process)) = (self.spec(worker), self.worker_process(worker)) {
            process.command(worker, Command::Run(spec));
        }
    }

    fn send_spec(&mut self, worker: &WorkerName) {
        let command = match self.spec(worker) {
            Ok(spec) => Command::Run(spec),
            Err(error) => Command::Stop(error.to_string()),
        };
        if let Some(process) = self.worker_process(worker) {
            process.command(worker, command);
        }
    }

    /// Tells workers that drain how much time they have now.
    pub(super) fn repeat_drains(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let draining = app.supervisor.workers().filter(|(_, it)| matches!(it.stage, Stage::Draining(_)));
        let workers: Vec<_> = draining.map(|(number, _)| app.worker(number)).collect();
        for worker in workers {
            self.repeat_drain(&worker);
        }
    }

    fn repeat_drain(&mut self, worker: &WorkerName) {
        let Some(app) = self.app_of(worker) else { return };
        let order = app.supervisor.drain_order(worker.number, Instant::now());
        if let (Some(process), Some(order)) = (app.worker_process(worker.number), order) {
            process.command(worker, Command::Drain(order));
        }
    }

    /// The process of a worker has exited, and its number is free.
    pub(super) fn gone(&mut self, worker: &WorkerName, ending: Ending) {
        let stage = self.stage_of(worker);
        let Some(app) = self.app_of(worker) else { return };
        let Some(process) = app.take_worker_process(worker.number) else { return };
        let pid = process.process.identity().pid;
        app.has_ended(pid);
        self.remove_socket(worker);
        match stage {
            Some(stage @ (Stage::Starting { .. } | Stage::Ready { .. })) if process.failure.is_none() => {
                match self.note_ending(worker, &process, stage, ending) {
                    Reported::No => tracing::warn!(%worker, pid, %ending, "worker exited unexpectedly"),
                    Reported::ToDeveloper => {
                        tracing::info!(%worker, pid, %ending, "worker exited unexpectedly");
                    }
                }
            }
            _ => tracing::info!(%worker, pid, %ending, "worker ended"),
        }
        self.reap_orphans();
        let exit = exit(ending, process.failure.as_ref());
        self.notify(&worker.vassal, Event::Exited { number: worker.number, exit });
    }

    /// Records the exit of a worker that didn't report a reason.
    fn note_ending(
        &mut self,
        worker: &WorkerName,
        process: &WorkerProcess,
        stage: Stage,
        ending: Ending,
    ) -> Reported {
        let generation = self.generation_of(worker).unwrap_or_default();
        if !matches!(stage, Stage::Starting { .. }) {
            if let Some(app) = self.app_of(worker) {
                app.worker_error = Some(format!("worker {worker} {ending}"));
            }
            return Reported::No;
        }
        let stack = self.take_stack(worker);
        let is_silent = !process.has_attached && matches!(ending, Ending::Status(_));
        let configured_by = self.config.configured_by;
        let Some(app) = self.app_of(worker) else { return Reported::No };
        let (error, cause) = match app.python_of(worker.number).filter(|_| is_silent) {
            Some(python) => (
                never_attached(&format!("worker {worker}"), &ending, &python, configured_by),
                never_attached("a worker", &ending, &python, configured_by),
            ),
            None => (
                format!(
                    "worker {worker} {ending} before it was ready: see the log{}",
                    and_keys(configured_by)
                ),
                format!("a worker {ending} before it was ready"),
            ),
        };
        let error = with_stack(&error, &stack);
        self.note_crashed_start(&worker.vassal, generation, error, cause, stack)
    }

    fn worker_process(&mut self, worker: &WorkerName) -> Option<&mut WorkerProcess> {
        self.app_of(worker)?.worker_process_mut(worker.number)
    }

    /// Returns the process of a worker, if it is that one.
    pub(super) fn process_of(
        &mut self,
        worker: &WorkerName,
        identity: Identity,
    ) -> Option<&mut WorkerProcess> {
        self.worker_process(worker).filter(|it| it.process.identity() == identity)
    }

    /// Returns the process of a worker, if that stream is its current one.
    fn attached(&mut self, worker: &WorkerName, id: AttachmentId) -> Option<&mut WorkerProcess> {
        self.worker_process(worker).filter(|it| it.is_attached_by(id))
    }

    pub(super) fn generation_of(&self, worker: &WorkerName) -> Option<u64> {
        Some(self.apps.get(&worker.vassal)?.supervisor.worker(worker.number)?.generation)
    }

    fn stage_of(&self, worker: &WorkerName) -> Option<Stage> {
        Some(self.apps.get(&worker.vassal)?.supervisor.worker(worker.number)?.stage)
    }
}

/// The error for a process that became an interpreter, but exited before it attached as a worker.
pub(super) fn never_attached(who: &str, ending: &Ending, python: &str, by: ConfiguredBy) -> String {
    let advice = match by {
        ConfiguredBy::Files => {
            "`python` must be a CPython of 3.10 or newer: see the log, and what `imperium check` says of it"
        }
        ConfiguredBy::Options => "it must be CPython 3.10 or newer: see the log",
    };
    format!("{who} {ending} before {python} had loaded the worker: {advice}")
}

/// The keys of the app's file to look at, if the operator has written it.
fn and_keys(by: ConfiguredBy) -> &'static str {
    match by {
        ConfiguredBy::Files => ", and `app` and `python` in its file",
        ConfiguredBy::Options => "",
    }
}

/// Decides from an exit whether another try is useful. As with gunicorn, status 3 means that the app can't be
/// imported.
pub(super) fn exit(ending: Ending, failure: Option<&Failure>) -> Exit {
    match (failure.map(|it| it.reason), ending) {
        (Some(Reason::Interpreter | Reason::Source), _) => Exit::NeedsEdit,
        (Some(Reason::Import), _) | (None, Ending::Status(3)) => Exit::Unusable,
        (None, Ending::Status(0)) => Exit::Orderly,
        _ => Exit::Crashed,
    }
}
