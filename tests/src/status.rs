//! The output of `imperium status --json`.

use serde::Deserialize;

/// The whole output.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The supervisor.
    pub emperord: Emperord,
    /// By name.
    pub apps: Vec<App>,
}

/// The supervisor.
#[derive(Debug, Clone, Deserialize)]
pub struct Emperord {
    /// Its pid.
    pub pid: u32,
    /// Such as `0.1.0`.
    pub version: String,
}

/// An app.
#[derive(Debug, Clone, Deserialize)]
pub struct App {
    /// The name of its file, without `.toml`.
    pub name: String,
    /// Such as `running`.
    pub state: String,
    /// The vassal file.
    pub file: String,
    /// Its URLs.
    pub urls: Vec<String>,
    /// The number of workers that its file asks for.
    pub wanted: u32,
    /// Increased by each change that requires new workers.
    pub generation: u64,
    /// The last error, or empty.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The callable.
    pub app: String,
    /// Whether the callable was found in the folder, instead of being named by the file.
    pub app_was_found: bool,
    /// The number of recycled workers.
    pub recycled: u64,
    /// The last one, and why it was recycled.
    pub last_recycled: String,
    /// What is missing or delayed.
    pub notices: Vec<String>,
    /// Its workers.
    pub workers: Vec<Worker>,
}

/// A worker of an app.
#[derive(Debug, Clone, Deserialize)]
pub struct Worker {
    /// Such as `blog-2`.
    pub name: String,
    /// Such as `ready`.
    pub state: String,
    /// Its pid.
    pub pid: u32,
    /// Running requests.
    pub busy: u32,
    /// The number of requests that it handles at once.
    pub capacity: u32,
    /// Completed requests.
    pub requests: u64,
    /// Its app's generation when it was started.
    pub generation: u64,
    /// Such as `CPython 3.11.7`.
    pub python: String,
    /// Why it is leaving, or empty.
    pub leaving: String,
    /// `wsgi` or `asgi`, or empty before it is ready.
    pub interface: String,
    /// Such as `uvloop`, or empty.
    pub r#loop: String,
    /// Open WebSockets.
    pub sockets: u32,
}

impl Status {
    /// The app of that name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }
}

impl App {
    /// The pids of the ready workers, sorted.
    #[must_use]
    pub fn ready(&self) -> Vec<u32> {
        let ready = self.workers.iter().filter(|worker| worker.state == "ready");
        let mut pids: Vec<_> = ready.map(|worker| worker.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Whether the app has as many workers as its file asks for, all of them ready, and no others.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let wanted = self.wanted as usize;
        self.state == "running" && self.workers.len() == wanted && self.ready().len() == wanted
    }

    /// The last error, or empty.
    #[must_use]
    pub fn error(&self) -> &str {
        self.last_error.as_deref().unwrap_or_default()
    }
}
