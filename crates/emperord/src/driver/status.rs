//! Describes all apps for the operator.

use std::time::{Duration, Instant};

use supervise::{Phase, Worker};

use super::Driver;
use super::app::{App, WorkerProcess};
use super::preload::NO_PRELOAD;
use crate::messages::{AppStatus, Load, Status, WorkerStatus};
use crate::state::Interface;

impl Driver {
    pub(super) fn status(&self) -> Status {
        // The notice for apps that ask for a template.
        let no_preload = self.launcher.templates().is_none().then_some(NO_PRELOAD);
        Status { apps: self.apps.values().map(|app| app.status(no_preload)).collect() }
    }
}

impl App {
    fn notices(&self, no_preload: Option<&str>, now: Instant) -> Vec<String> {
        let outlook = self.supervisor.outlook(now);
        let is_watched = self.vassal.as_ref().is_some_and(|it| it.reload.watch);
        let missing = (outlook.missing > 0).then(|| {
            let (missing, next) =
                (outlook.missing, next(outlook.next_start, outlook.awaits_edit, is_watched));
            format!("{missing} of {} workers missing: the next start {next}", self.wanted())
        });
        let abandoned = outlook.abandoned.map(|it| {
            let (current, next) =
                (self.supervisor.generation(), next(it.next_trial, it.awaits_edit, is_watched));
            // The last error is shown in full.
            let why = self.abandoned_error.as_deref().filter(|it| Some(*it) != self.last_error());
            let why = why.and_then(|it| it.lines().next());
            let why = why.map_or_else(String::new, |it| format!(" ({it})"));
            let meanwhile = match self.shown_failure() {
                Some(_) => "clients are shown the error".to_owned(),
                None => format!("{} keeps serving", it.serving),
            };
            format!("generation {current} did not start{why}; {meanwhile}, and the next try {next}")
        });
        let too_low = self.supervisor.memory_limit_is_too_low().map(|age| {
            let age = age.as_secs();
            format!("recycle.memory is below what a new worker needs: raise it; each worker is kept for at least {age} s")
        });
        let asks = self.vassal.as_ref().is_some_and(|it| it.preload.is_on());
        let passed_over = no_preload.filter(|_| asks).map(str::to_owned);
        let edits = self.source_watch.as_ref().and_then(|it| it.problem.clone());
        let waits = self.slow_lookups.values().map(|it| format!("waiting for {it}"));
        self.missing_notice()
            .into_iter()
            .chain(waits)
            .chain(edits)
            .chain(missing)
            .chain(abandoned)
            .chain(too_low)
            .chain(passed_over)
            .collect()
    }

    fn wanted(&self) -> u16 {
        self.vassal.as_deref().map_or(0, |it| it.workers)
    }

    fn status(&self, no_preload: Option<&str>) -> AppStatus {
        let vassal = self.vassal.as_deref();
        let workers = self.supervisor.workers();
        AppStatus {
            name: self.name.to_string(),
            phase: self.phase(),
            file: self.file.clone(),
            domains: vassal.map_or_else(Vec::new, |it| it.domains.iter().map(ToString::to_string).collect()),
            path: vassal.map_or_else(String::new, |it| it.path.to_string()),
            wanted: self.wanted(),
            workers: workers.filter_map(|(number, it)| self.worker_status(number, it)).collect(),
            last_error: self.last_error().unwrap_or_default().to_owned(),
            generation: self.supervisor.generation(),
            app: vassal.map(|it| (it.app.to_string(), it.app_chosen_by)),
            recycled: self.recycled.clone(),
            notices: self.notices(no_preload, Instant::now()),
            file_digest: self
                .file_digest
                .clone()
                .filter(|_| self.pending_version.is_none())
                .unwrap_or_default(),
            vassal: self.vassal.clone(),
        }
    }

    /// An app without a valid version has no workers to supervise, and counts as failed unless a version is being
    /// checked. So does an app in whose place clients are shown an error, even if older workers are ready.
    fn phase(&self) -> Phase {
        match (&self.vassal, self.supervisor.phase(Instant::now())) {
            (None, _) if self.pending_version.is_some() => Phase::Starting,
            (None, _) if self.worker_processes().next().is_none() => Phase::Failed,
            (_, Phase::Running | Phase::Reloading) if self.shown_failure().is_some() => Phase::Failed,
            (_, phase) => phase,
        }
    }

    fn worker_status(&self, number: u16, worker: &Worker) -> Option<WorkerStatus> {
        let process = self.worker_process(number)?;
        let identity = process.process.identity();
        Some(WorkerStatus {
            name: self.worker(number),
            stage: worker.stage,
            pid: identity.pid,
            generation: worker.generation,
            capacity: process.serving.as_ref().map_or(0, |it| it.capacity),
            python: process.serving.as_ref().map_or_else(String::new, |it| it.python.clone()),
            interface: process.serving.as_ref().map_or_else(Interface::default, |it| it.interface),
            event_loop: process.serving.as_ref().map_or_else(String::new, |it| it.event_loop.clone()),
            load: load(process),
            age: identity.age(),
            leaving: leaving(process, worker),
            sockets_end: self.supervisor.sockets_end(number, Instant::now()),
        })
    }
}

/// Tells when the next attempt takes place. With `is_watched`, each change of the app's files leads to one.
fn next(wait: Option<Duration>, awaits_edit: bool, is_watched: bool) -> String {
    match wait {
        _ if awaits_edit => "is when the app's own files change".to_owned(),
        Some(wait) if is_watched => {
            format!("is in {} s, or when the app's own files change", wait.as_secs() + 1)
        }
        Some(wait) => format!("is in {} s", wait.as_secs() + 1),
        None => "is due".to_owned(),
    }
}

fn leaving(process: &WorkerProcess, worker: &Worker) -> String {
    let due = || worker.due.map(|cause| format!("to be recycled: {cause}"));
    process.drain_reason.clone().or_else(due).unwrap_or_default()
}

/// Prefers the kernel's figure of the memory: a busy or idle worker may not have reported a current one.
fn load(process: &WorkerProcess) -> Load {
    let memory = match process.process.identity().memory() {
        0 => process.load.memory,
        memory => memory,
    };
    Load { memory, ..process.load }
}
