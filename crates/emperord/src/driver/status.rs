//! The status of all apps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::WorkerName;
use supervise::{Phase, Stage, Worker};
use vassal::{ChosenBy, Vassal};

use super::Driver;
use super::app::{App, Recycled, Slot};
use super::event::Load;
use super::template::NO_PRELOAD;
use crate::launcher::Preload;

/// The status of all apps.
#[derive(Debug, Clone)]
pub struct Status {
    /// By name.
    pub apps: Vec<AppStatus>,
}

/// The status of one app.
#[derive(Debug, Clone)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// Its overall state.
    pub phase: Phase,
    /// Its file.
    pub file: PathBuf,
    /// The hosts that it serves. Empty if its file was never valid.
    pub domains: Vec<String>,
    /// The path that it is mounted at.
    pub path: String,
    /// The number of workers that its file asks for.
    pub wanted: u16,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
    /// The last error, or empty.
    pub last_error: String,
    /// The generation of new workers.
    pub generation: u64,
    /// The callable, and how it was chosen. None if its file was never valid.
    pub app: Option<(String, ChosenBy)>,
    /// Its recycled workers.
    pub recycled: Recycled,
    /// What is missing or delayed, and what happens next.
    pub notices: Vec<String>,
    /// Identifies the text of its file that was read and decided about. Empty before.
    pub file_digest: String,
    /// Its configuration. None if its file was never valid.
    pub vassal: Option<Arc<Vassal>>,
}

impl AppStatus {
    /// Adds what needs disk access, and may therefore block. Not called by the driver.
    pub fn look_at_disk(&mut self) {
        let absent = self.vassal.as_ref().map(|it| it.absent_files()).unwrap_or_default();
        self.notices.extend(absent.iter().map(ToString::to_string));
    }
}

/// The status of one worker.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    /// Its name.
    pub name: WorkerName,
    /// Its stage.
    pub stage: Stage,
    /// Its process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// The number of requests that it handles at once; 0 before it is ready.
    pub capacity: u32,
    /// Such as `CPython 3.11.7`. Empty before it is ready.
    pub python: String,
    /// How busy it is.
    pub load: Load,
    /// The time since its process was started.
    pub age: Duration,
    /// Why it is leaving, or empty.
    pub leaving: String,
}

impl Driver {
    pub(super) fn status(&self) -> Status {
        let preload = self.launcher.preload();
        Status { apps: self.apps.values().map(|app| app.status(preload)).collect() }
    }
}

impl App {
    fn notices(&self, preload: Preload, now: Instant) -> Vec<String> {
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
        let passed_over = (asks && preload == Preload::Impossible).then(|| NO_PRELOAD.to_owned());
        let edits = self.edits.as_ref().and_then(|it| it.problem.clone());
        let waits = self.waits.values().map(|it| format!("waiting for {it}"));
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

    fn status(&self, preload: Preload) -> AppStatus {
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
            notices: self.notices(preload, Instant::now()),
            file_digest: self.file_digest.clone().filter(|_| self.admission.is_none()).unwrap_or_default(),
            vassal: self.vassal.clone(),
        }
    }

    /// An app without a valid version has no workers to supervise, and counts as failed unless a version is being
    /// checked. So does an app in whose place clients are shown an error, even if older workers are ready.
    fn phase(&self) -> Phase {
        match (&self.vassal, self.supervisor.phase(Instant::now())) {
            (None, _) if self.admission.is_some() => Phase::Starting,
            (None, _) if self.slots.is_empty() => Phase::Failed,
            (_, Phase::Running | Phase::Reloading) if self.shown_failure().is_some() => Phase::Failed,
            (_, phase) => phase,
        }
    }

    fn worker_status(&self, number: u16, worker: &Worker) -> Option<WorkerStatus> {
        let slot = self.slots.get(&number)?;
        let identity = slot.process.identity();
        Some(WorkerStatus {
            name: self.worker(number),
            stage: worker.stage,
            pid: identity.pid,
            generation: worker.generation,
            capacity: slot.serving.as_ref().map_or(0, |it| it.capacity),
            python: slot.serving.as_ref().map_or_else(String::new, |it| it.python.clone()),
            load: load(slot),
            age: identity.age(),
            leaving: leaving(slot, worker),
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

fn leaving(slot: &Slot, worker: &Worker) -> String {
    let due = || worker.due.map(|cause| format!("to be recycled: {cause}"));
    slot.leaving.clone().or_else(due).unwrap_or_default()
}

/// Prefers the kernel's figure of the memory: a busy or idle worker may not have reported a current one.
fn load(slot: &Slot) -> Load {
    let memory = match slot.process.identity().memory() {
        0 => slot.load.memory,
        memory => memory,
    };
    Load { memory, ..slot.load }
}
