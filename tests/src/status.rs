//! What `imperium status --json` tells.

use serde::Deserialize;

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The supervisor itself.
    pub emperord: Emperord,
    /// In the order of their names.
    pub apps: Vec<App>,
}

/// The supervisor itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Emperord {
    /// Its process.
    pub pid: u32,
    /// Such as `0.1.0`.
    pub version: String,
}

/// One vassal.
#[derive(Debug, Clone, Deserialize)]
pub struct App {
    /// The name of its file, without `.toml`.
    pub name: String,
    /// Such as `running`.
    pub state: String,
    /// The vassal file.
    pub file: String,
    /// Where it is served.
    pub urls: Vec<String>,
    /// How many workers its file asks for.
    pub wanted: u32,
    /// Raised by each change that calls for new workers.
    pub generation: u64,
    /// Empty when nothing is wrong.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The callable that answers.
    pub app: String,
    /// It was found in the folder, as the file does not name it.
    pub app_was_found: bool,
    /// How many workers were recycled.
    pub recycled: u64,
    /// Which one last, and why.
    pub last_recycled: String,
    /// What is missing or held back.
    pub notices: Vec<String>,
    /// Its processes.
    pub workers: Vec<Worker>,
}

/// One process of an app.
#[derive(Debug, Clone, Deserialize)]
pub struct Worker {
    /// Such as `blog-2`.
    pub name: String,
    /// Such as `ready`.
    pub state: String,
    /// Its process.
    pub pid: u32,
    /// Requests under way.
    pub busy: u32,
    /// How many it works on at once.
    pub capacity: u32,
    /// Requests that have ended.
    pub requests: u64,
    /// Of its app, when it was started.
    pub generation: u64,
    /// Such as `CPython 3.11.7`.
    pub python: String,
    /// Why it is to go; empty while it is to stay.
    pub leaving: String,
}

impl Status {
    /// The app of that name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }
}

impl App {
    /// The processes that serve, in order.
    #[must_use]
    pub fn ready(&self) -> Vec<u32> {
        let ready = self.workers.iter().filter(|worker| worker.state == "ready");
        let mut pids: Vec<_> = ready.map(|worker| worker.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// As many workers as the file asks for, all ready, and no other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let wanted = self.wanted as usize;
        self.state == "running" && self.workers.len() == wanted && self.ready().len() == wanted
    }

    /// What went wrong last; empty when nothing is.
    #[must_use]
    pub fn error(&self) -> &str {
        self.last_error.as_deref().unwrap_or_default()
    }
}
