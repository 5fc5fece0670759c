//! Templates, from which workers are forked: their lifecycle, and their orders.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use api::{VassalName, WorkerName};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use supervise::{Action, Event, KillCause};

use super::Driver;
use super::act::not_spawned;
use super::app::{App, Slot};
use super::attach::{exit, never_attached};
use super::broken::Reported;
use super::event::{self, Attaching, Failure, WorkerSpec};
use super::prepare::Waiting;
use crate::launcher::{LaunchError, Preload, Prepared};
use crate::process::{Ending, Process};
use crate::template::{Orders, TemplateEvent, communicate, no_fork};

/// The largest number of workers that may attach before the template has reported their forks.
const MAX_EARLY: usize = 256;

/// The notice for an app with `preload` under systemd.
pub(super) const NO_PRELOAD: &str =
    "`preload` has no effect: systemd starts each worker separately. Remove it";

/// The process that an app's workers are forked from.
///
/// ```text
///   started ──imported──▶ forks at each order ──▶ ended: new generation, app or emperord gone
///      └── can't import: all its orders fail
/// ```
pub(super) struct Template {
    process: Process,
    /// The generation that it has imported.
    generation: u64,
    stage: Import,
    orders: Orders,
    /// Ordered workers that don't exist yet, by order.
    ordered: BTreeMap<u64, u16>,
    next_order: u64,
    /// Workers that attached before the template reported their forks.
    early: Vec<Attaching>,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Import {
    Underway,
    Done,
}

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
enum TemplateError {
    #[error("its configuration is no longer known")]
    Unknown,
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl Driver {
    /// Starts a template for the current generation if the app's file asks for one, and stops any other.
    pub(super) fn follow_preload(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let generation = app.supervisor.generation();
        let wants_one = app.vassal.as_ref().is_some_and(|it| it.preload.is_on());
        if !wants_one {
            return self.end_template(name);
        }
        if self.launcher.preload() == Preload::Impossible {
            return tracing::warn!(app = %name, "{NO_PRELOAD}");
        }
        if app.has_template_of(generation) {
            return;
        }
        let Some(vassal) = app.specs.get(&generation).map(Arc::clone) else { return };
        self.end_template(name);
        self.prepare(name, generation, &vassal, Waiting::Template);
    }

    /// Starts the template of a generation, if that is still the current one.
    pub(super) fn start_template(&mut self, name: &VassalName, generation: u64, prepared: &Prepared) {
        let wants_it = |app: &App| {
            app.supervisor.generation() == generation
                && app.vassal.as_ref().is_some_and(|it| it.preload.is_on())
        };
        if !self.apps.get(name).is_some_and(wants_it) {
            return;
        }
        if let Err(error) = self.ensure_template(name, generation, prepared) {
            tracing::error!(app = %name, %error, "cannot start the template");
        }
    }

    fn ensure_template(
        &mut self,
        name: &VassalName,
        generation: u64,
        prepared: &Prepared,
    ) -> Result<(), TemplateError> {
        if self.apps.get(name).is_some_and(|it| it.has_template_of(generation)) {
            return Ok(());
        }
        self.end_template(name);
        let app = self.apps.get(name).ok_or(TemplateError::Unknown)?;
        let vassal = app.specs.get(&generation).map(Arc::clone).ok_or(TemplateError::Unknown)?;
        let (process, stream) = self.launcher.start_template(&vassal, prepared)?;
        let pid = process.identity().pid;
        tracing::info!(app = %name, pid, generation, "template started");
        let (events, app) = (self.events.clone(), name.clone());
        let orders = communicate(&self.tasks, process.clone(), stream, move |report| {
            let (events, app) = (events.upgrade(), app.clone());
            async move {
                if let Some(events) = events {
                    let _nobody_left = events.send(event::Event::Template { app, pid, report }).await;
                }
            }
        });
        // It is no worker, so it has neither number nor socket.
        let (socket, mode) = (PathBuf::new(), self.config.mode);
        orders.import(&WorkerSpec { number: 0, generation, vassal, socket, mode });
        let template = Template::new(process, generation, orders);
        if let Some(app) = self.apps.get_mut(name) {
            app.template = Some(template);
        }
        Ok(())
    }

    /// Stops the template. Its exit is awaited, as for every process.
    pub(super) fn end_template(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if let Some(template) = app.template.take() {
            app.leaving.insert(template.process.identity().pid);
            // SIGKILL, since it serves no requests, and the app may handle SIGTERM.
            template.process.signal(Signal::KILL);
            self.fail_ordered(name, template.ordered, Ending::Unknown, None);
        }
    }

    /// Has a worker forked once the template has imported its app.
    pub(super) fn order_fork(
        &mut self,
        name: &VassalName,
        number: u16,
        generation: u64,
        prepared: &Prepared,
    ) -> Option<Event> {
        if let Err(error) = self.ensure_template(name, generation, prepared) {
            let told = format!("the template of {name} was not started: {error}");
            if self.note_failed_start(name, generation, told.clone(), told) == Reported::No {
                tracing::error!(app = %name, %error, "cannot start the template");
            }
            return Some(match error {
                TemplateError::Unknown => Event::SpawnRefused { number },
                TemplateError::Launch(error) => not_spawned(number, &error),
            });
        }
        let app = self.apps.get_mut(name)?;
        let worker = app.worker(number);
        app.template.as_mut()?.order(&worker);
        tracing::debug!(%worker, generation, "forking worker");
        None
    }

    pub(super) fn template_reported(&mut self, name: &VassalName, pid: u32, report: TemplateEvent) {
        let is_current = self.apps.get(name).is_some_and(|app| app.has_template(pid));
        match report {
            TemplateEvent::Forked { id, forked } => self.forked(name, pid, id, forked),
            TemplateEvent::Imported if is_current => self.imported(name),
            TemplateEvent::Failed(failure) if is_current => {
                let generation = self.apps.get(name).and_then(|app| Some(app.template.as_ref()?.generation));
                if self.tell_developer(name, generation.unwrap_or_default(), &failure) == Reported::No {
                    let Failure { reason, message, .. } = &failure;
                    tracing::error!(app = %name, ?reason, "template cannot run the app: {message}");
                }
                if let Some(template) = self.apps.get_mut(name).and_then(|app| app.template.as_mut()) {
                    template.failure = Some(failure);
                }
            }
            TemplateEvent::Imported | TemplateEvent::Failed(_) => {}
            TemplateEvent::Ended(ending) => self.template_ended(name, pid, ending),
        }
    }

    fn imported(&mut self, name: &VassalName) {
        tracing::info!(app = %name, "template is ready");
        if let Some(template) = self.apps.get_mut(name).and_then(|app| app.template.as_mut()) {
            template.stage = Import::Done;
        }
    }

    fn template_ended(&mut self, name: &VassalName, pid: u32, ending: Ending) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.has_ended(pid);
        if !app.has_template(pid) {
            app.leaving.remove(&pid);
            return;
        }
        let python = app.current_python();
        let Some(Template { ordered, failure, stage, generation, .. }) = app.template.take() else { return };
        match &failure {
            Some(_) => tracing::info!(app = %name, pid, %ending, "template ended"),
            None => tracing::warn!(app = %name, pid, %ending, "template exited unexpectedly"),
        }
        match &failure {
            Some(failure) => app.worker_error = Some(failure.describe(&format!("the template of {name}"))),
            None if ordered.is_empty() => {}
            None => {
                let who = format!("the template of {name}");
                let told = match stage == Import::Underway && matches!(ending, Ending::Status(_)) {
                    true => {
                        never_attached(&who, &ending, &python.unwrap_or_default(), self.config.configured_by)
                    }
                    false => format!("{who} {ending}: see the log"),
                };
                let _logged = self.note_failed_start(name, generation, told.clone(), told);
            }
        }
        self.fail_ordered(name, ordered, ending, failure.as_ref());
    }

    /// Fails the orders of a template that has exited.
    fn fail_ordered(
        &mut self,
        name: &VassalName,
        ordered: BTreeMap<u64, u16>,
        ending: Ending,
        failure: Option<&Failure>,
    ) {
        for number in ordered.into_values() {
            self.notify(name, Event::Exited { number, exit: exit(ending, failure) });
        }
    }

    /// The result of a fork. If nobody waits for the worker any more, it is stopped.
    fn forked(&mut self, name: &VassalName, template: u32, order: u64, process: Result<Process, String>) {
        let template = self.apps.get_mut(name).and_then(|app| app.template.as_mut()?.if_process(template));
        let number = template.and_then(|it| it.ordered.remove(&order));
        // A template runs the app's code, and could name a process of another app.
        let is_known = |it: &Process| self.apps.values().any(|app| app.has_process(it.identity().pid));
        let process = process.and_then(|it| if is_known(&it) { Err(no_fork(&it)) } else { Ok(it) });
        match (number, process) {
            (Some(number), Ok(process)) => self.accept_fork(name, number, process),
            (Some(number), Err(error)) => {
                let worker = WorkerName { vassal: name.clone(), number };
                self.note_not_started(&worker, &error);
                self.notify(name, Event::SpawnFailed { number });
            }
            (None, Ok(process)) => self.discard(name, process),
            (None, Err(_)) => {}
        }
        self.reap_orphans();
    }

    fn accept_fork(&mut self, name: &VassalName, number: u16, process: Process) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(template) = &mut app.template else { return };
        let (generation, pid) = (template.generation, process.identity().pid);
        // Another process with that name will attach again, and is then told to stop.
        let of_the_name: Vec<_> = template.early.extract_if(.., |it| it.worker.number == number).collect();
        let early = of_the_name.into_iter().find(|it| it.caller.identity == process.identity());
        let worker = app.worker(number);
        let Some(vassal) = app.specs.get(&generation) else { return self.discard(name, process) };
        if let Err(error) = self.launcher.take_fork(&worker, vassal, &process) {
            self.note_not_started(&worker, &error.to_string());
            self.discard(name, process);
            return self.notify(name, not_spawned(number, &error));
        }
        tracing::info!(%worker, pid, generation, "worker forked");
        let fingerprint = vassal.process_fingerprint();
        app.slots.insert(number, Slot::new(process.clone(), fingerprint, None));
        self.await_end(worker, process);
        if let Some(attaching) = early {
            self.attach(attaching);
        }
    }

    fn discard(&mut self, name: &VassalName, process: Process) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let pid = process.identity().pid;
        app.leaving.insert(pid);
        process.signal(Signal::KILL);
        let (events, app) = (self.events.clone(), name.clone());
        self.tasks.spawn(async move {
            let report = TemplateEvent::Ended(process.ended().await);
            if let Some(events) = events.upgrade() {
                let _nobody_left = events.send(event::Event::Template { app, pid, report }).await;
            }
        });
    }

    /// Keeps a worker that attaches before the template has reported its fork. Returns any other.
    pub(super) fn keep_early(&mut self, attaching: Attaching) -> Option<Attaching> {
        let number = attaching.worker.number;
        let template = self.app_of(&attaching.worker).and_then(|app| app.template.as_mut());
        let awaits = |it: &Template| {
            it.ordered.values().any(|ordered| *ordered == number)
                && it.early.len() < MAX_EARLY
                && it.process.identity().has_user(attaching.caller.uid)
        };
        match template.filter(|it| awaits(it)) {
            Some(template) => {
                template.early.push(attaching);
                None
            }
            None => Some(attaching),
        }
    }

    /// Reaps orphans that emperord has inherited as a subreaper. While a fork is awaited, it may be among
    /// them, so they are left alone.
    pub(super) fn reap_orphans(&self) {
        if self.apps.values().any(|app| app.template.as_ref().is_some_and(|it| !it.ordered.is_empty())) {
            return;
        }
        for pid in children().filter(|pid| !self.apps.values().any(|app| app.has_process(*pid))) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _it_lives = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }
}

impl Template {
    fn if_process(&mut self, pid: u32) -> Option<&mut Self> {
        (self.process.identity().pid == pid).then_some(self)
    }

    fn new(process: Process, generation: u64, orders: Orders) -> Self {
        Self {
            process,
            generation,
            stage: Import::Underway,
            orders,
            ordered: BTreeMap::new(),
            next_order: 1,
            early: Vec::new(),
            failure: None,
        }
    }

    fn order(&mut self, worker: &WorkerName) {
        let id = self.next_order;
        self.next_order += 1;
        self.ordered.insert(id, worker.number);
        self.orders.fork(id, worker);
    }
}

impl App {
    /// Cancels a fork. Returns false if it wasn't ordered. A worker that appears anyway is stopped. An import
    /// that takes too long is stopped too.
    pub(super) fn call_off_fork(&mut self, number: u16, action: Action) -> bool {
        let Some(template) = &mut self.template else { return false };
        let called_off = template.ordered.extract_if(.., |_, ordered| *ordered == number).count();
        if called_off == 0 {
            return false;
        }
        template.early.retain(|it| it.worker.number != number);
        if let Action::Kill { cause: KillCause::StartTimeout, .. } = action
            && template.stage == Import::Underway
        {
            template.process.signal(Signal::KILL);
        }
        true
    }

    fn has_template_of(&self, generation: u64) -> bool {
        self.template.as_ref().is_some_and(|it| it.generation == generation)
    }

    fn has_template(&self, pid: u32) -> bool {
        self.template.as_ref().is_some_and(|it| it.process.identity().pid == pid)
    }

    fn has_process(&self, pid: u32) -> bool {
        self.has_template(pid)
            || self.leaving.contains(&pid)
            || self.slots.values().any(|slot| slot.process.identity().pid == pid)
    }
}

/// The children of this process, from all its threads.
fn children() -> impl Iterator<Item = u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_thread =
        |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let pids: Vec<u32> = threads
        .flat_map(|thread| {
            of_thread(thread).split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    pids.into_iter()
}
