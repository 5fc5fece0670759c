//! The status of all apps, for the operator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::WorkerName;
use supervise::{Phase, Stage};
use vassal::{ChosenBy, Vassal};

use super::Load;
use crate::state::Interface;

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
    /// How it calls the app.
    pub interface: Interface,
    /// Such as `uvloop`. Empty if there is no event loop, or before it is ready.
    pub event_loop: String,
    /// How busy it is.
    pub load: Load,
    /// The time since its process was started.
    pub age: Duration,
    /// Why it is leaving, or empty.
    pub leaving: String,
    /// How long its open WebSockets may still keep it, while it drains and they do.
    pub sockets_end: Option<Duration>,
}

/// The workers that were recycled since this emperord started.
#[derive(Debug, Clone, Default)]
pub struct Recycled {
    /// Their number.
    pub count: u64,
    /// The last one, and why it was recycled. Empty if there was none.
    pub last: String,
}
