//! Workers that are forked from their app's template.

use std::fs;

use api::{VassalName, WorkerName};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use supervise::Event;

use super::Driver;
use super::act::not_spawned;
use super::app::{App, Forking, Tenure, WorkerProcess};
use super::developer::Reported;
use super::preload::TemplateError;
use crate::launch::{ForkId, Prepared, TemplateEvent, not_a_fork};
use crate::messages::{self, Attaching};
use crate::pidfd::Process;

/// The largest number of workers that may attach before the template has reported their forks.
const MAX_EARLY: usize = 256;

impl Driver {
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
                TemplateError::Unknown | TemplateError::Unsupported => Event::SpawnRefused { number },
                TemplateError::Launch(error) => not_spawned(number, &error),
            });
        }
        // A template that was replaced may have called it off.
        let app = self.apps.get_mut(name).filter(|it| it.is_preparing(number, generation))?;
        let worker = app.worker(number);
        let id = app.template.as_mut()?.fork(&worker);
        app.tenures.insert(number, Tenure::Forking(Forking { id, early: Vec::new() }));
        tracing::debug!(%worker, generation, "forking worker");
        None
    }

    /// The result of a fork. If nobody waits for the worker any more, it is stopped.
    pub(super) fn forked(
        &mut self,
        name: &VassalName,
        template: u32,
        fork: ForkId,
        process: Result<Process, String>,
    ) {
        let awaited = self.apps.get_mut(name).and_then(|app| app.take_forking(template, fork));
        // A template runs the app's code, and could name a process of another app.
        let is_known = |it: &Process| self.apps.values().any(|app| app.has_process(it.identity().pid));
        let process = process.and_then(|it| if is_known(&it) { Err(not_a_fork(&it)) } else { Ok(it) });
        match (awaited, process) {
            (Some((number, early)), Ok(process)) => self.accept_fork(name, number, process, early),
            (Some((number, _)), Err(error)) => {
                let worker = WorkerName { vassal: name.clone(), number };
                self.note_not_started(&worker, &error);
                self.notify(name, Event::SpawnFailed { number });
            }
            (None, Ok(process)) => self.discard(name, process),
            (None, Err(_)) => {}
        }
        self.reap_orphans();
    }

    fn accept_fork(&mut self, name: &VassalName, number: u16, process: Process, early: Vec<Attaching>) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(template) = &app.template else { return };
        let (generation, pid) = (template.generation, process.identity().pid);
        // Another process with that name will attach again, and is then told to stop.
        let early = early.into_iter().find(|it| it.caller.identity == process.identity());
        let worker = app.worker(number);
        let Some(vassal) = app.configurations.get(&generation) else {
            self.discard(name, process);
            return self.notify(name, Event::SpawnRefused { number });
        };
        let taken = self.launcher.templates().map(|it| it.take_fork(&worker, vassal, &process));
        if let Some(Err(error)) = taken {
            self.note_not_started(&worker, &error.to_string());
            self.discard(name, process);
            return self.notify(name, not_spawned(number, &error));
        }
        tracing::info!(%worker, pid, generation, "worker forked");
        let fingerprint = vassal.process_fingerprint();
        app.runs(number, WorkerProcess::new(process.clone(), fingerprint, None));
        self.await_end(worker, process);
        if let Some(attaching) = early {
            self.attach(attaching);
        }
    }

    fn discard(&mut self, name: &VassalName, process: Process) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let pid = process.identity().pid;
        app.former_processes.insert(pid);
        process.signal(Signal::KILL);
        let (events, app) = (self.events.clone(), name.clone());
        self.tasks.spawn(async move {
            let report = TemplateEvent::Ended(process.ended().await);
            if let Some(events) = events.upgrade() {
                let _nobody_left = events.send(messages::Event::Template { app, pid, report }).await;
            }
        });
    }

    /// Keeps a worker that attaches before the template has reported its fork. Returns any other.
    pub(super) fn keep_early(&mut self, attaching: Attaching) -> Option<Attaching> {
        let number = attaching.worker.number;
        let Some(app) = self.app_of(&attaching.worker) else { return Some(attaching) };
        let kept: usize = app.forking().map(|(_, it)| it.early.len()).sum();
        let Some(Tenure::Forking(forking)) = app.tenures.get_mut(&number) else { return Some(attaching) };
        let process = app.template.as_ref().map(|it| &it.process);
        if kept >= MAX_EARLY || !process.is_some_and(|it| it.identity().has_user(attaching.caller.uid)) {
            return Some(attaching);
        }
        forking.early.push(attaching);
        None
    }

    /// Reaps orphans that emperord has inherited as a subreaper. While a fork is awaited, it may be among
    /// them, so they are left alone.
    pub(super) fn reap_orphans(&self) {
        if self.apps.values().any(|app| app.forking().next().is_some()) {
            return;
        }
        for pid in children().filter(|pid| !self.apps.values().any(|app| app.has_process(*pid))) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _it_lives = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }
}

impl App {
    /// Ends the wait for a fork of the current template. Returns the number, and the processes that attached with it.
    fn take_forking(&mut self, template: u32, fork: ForkId) -> Option<(u16, Vec<Attaching>)> {
        let (number, _) =
            self.forking().find(|(_, it)| it.id == fork).filter(|_| self.has_template(template))?;
        match self.tenures.remove(&number) {
            Some(Tenure::Forking(Forking { early, .. })) => Some((number, early)),
            _ => None,
        }
    }

    fn has_process(&self, pid: u32) -> bool {
        self.has_template(pid)
            || self.former_processes.contains(&pid)
            || self.worker_processes().any(|(_, it)| it.process.identity().pid == pid)
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
