//! The file of one app, which is all that an operator writes: parsed with exact errors, and resolved.

mod app;
mod call;
mod confinement;
mod conflict;
mod domain;
mod edit;
mod file_name;
mod find_app;
mod fingerprint;
mod foreign;
mod interface;
mod parse;
mod path;
mod preload;
mod python;
mod recycle;
mod schema;
mod sockets;
mod static_files;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::VassalName;

pub use app::{App, Callable, Target};
pub use confinement::{Confinement, UserName};
pub use conflict::{Conflict, conflicts};
pub use domain::Domain;
pub use edit::SetWorkersError;
pub use file_name::{FileNameError, name_of};
pub use fingerprint::text_digest;
pub use interface::{DEFAULT_CONCURRENCY, EventLoop, Interface};
pub use path::{HealthPath, MountPath, StaticPrefix};
pub use preload::Preload;
pub use python::Python;
pub use recycle::Recycle;
pub use schema::SCHEMA;
pub use static_files::{StaticSource, Symlinks};

/// Maximum number of workers of an app.
pub const MAX_WORKERS: u16 = 1000;

/// An app, as its file defines it. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vassal {
    /// From the file's name.
    pub name: VassalName,
    /// The file.
    pub file: PathBuf,
    /// The hosts of the app, at least one.
    pub domains: Vec<Domain>,
    /// The URL prefix that it is mounted at.
    pub path: MountPath,
    /// The callable.
    pub app: App,
    /// Where `app` comes from.
    pub app_chosen_by: ChosenBy,
    /// The working directory, which exists and is first in `sys.path`.
    pub directory: PathBuf,
    /// The interpreter.
    pub python: Python,
    /// The number of processes.
    pub workers: u16,
    /// How the app is called.
    pub interface: Interface,
    /// How many requests each process of a WSGI app handles at the same time.
    pub threads: u16,
    /// How many requests, and how many WebSockets, each process of an ASGI app handles at the same time. `None` means
    /// [`DEFAULT_CONCURRENCY`].
    pub concurrency: Option<u16>,
    /// The event loop of an ASGI app.
    pub event_loop: EventLoop,
    /// Whether frontd sends a client that was served to the same process again.
    pub sticky: Sticky,
    /// Whether the app is imported once, and its processes are forked from there.
    pub preload: Preload,
    /// A path that must return 2xx in a process before it gets requests.
    pub health: Option<HealthPath>,
    /// When processes are replaced because of their age or use.
    pub recycle: Recycle,
    /// When all processes are replaced automatically.
    pub reload: Reload,
    /// The user and the limits of each process.
    pub confinement: Confinement,
    /// `[env]`: added to the environment of each process, with precedence over `env_file`.
    pub env: BTreeMap<String, String>,
    /// A file with more environment variables. Each process reads it as its own user, because the app may be
    /// able to change its folder.
    pub env_file: Option<PathBuf>,
    /// Folders and files that frontd serves without the app, by prefix.
    pub static_folders: BTreeMap<StaticPrefix, StaticSource>,
    /// Folders whose files frontd sends when the app asks for it, by the prefixes that the app uses for them.
    pub sendfile_folders: BTreeMap<StaticPrefix, PathBuf>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// The queue of requests that wait for a worker.
    pub queue: Queue,
    /// Limits of one request.
    pub limits: Limits,
}

/// A path in `[static]` or `[sendfile]` that doesn't exist yet. frontd serves it as soon as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentFiles {
    /// The key, such as `static./static/`.
    pub key: String,
    /// The path.
    pub path: PathBuf,
}

impl std::fmt::Display for AbsentFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, path } = self;
        write!(f, "{key}: {} doesn't exist yet: requests for it get a 404 until it does", path.display())
    }
}

impl Vassal {
    /// Checks whether the paths in `[static]` and `[sendfile]` exist. Blocks for as long as the file system
    /// does.
    #[must_use]
    pub fn absent_files(&self) -> Vec<AbsentFiles> {
        let served = self.static_folders.iter().map(|(prefix, it)| ("static", prefix, &it.path));
        let sent = self.sendfile_folders.iter().map(|(prefix, it)| ("sendfile", prefix, it));
        let absent = served.chain(sent).filter(|(_, _, path)| matches!(path.try_exists(), Ok(false)));
        absent
            .map(|(table, prefix, path)| AbsentFiles { key: format!("{table}.{prefix}"), path: path.clone() })
            .collect()
    }
}

/// Where the app's callable comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// From the file.
    Operator,
    /// Found in the app's folder, because the file doesn't name it.
    Folder,
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of a process until it is ready.
    pub start: Duration,
    /// From the moment a worker gets a request until its response begins. `None` means no limit.
    pub request: Option<Duration>,
    /// Between two chunks of a response. `None` means no limit.
    pub idle: Option<Duration>,
    /// For running requests when a worker is told to stop.
    pub stop: Duration,
    /// For open WebSockets when a worker is replaced.
    pub websocket_drain: Duration,
}

/// When all processes of an app are replaced without being asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// When the app's own files change.
    pub watch: bool,
}

/// The queue of requests that wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many requests may wait.
    pub size: u32,
    /// How long each may wait.
    pub timeout: Duration,
}

/// Limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a request body, in bytes.
    pub body: u64,
    /// Maximum size of a WebSocket message, in bytes.
    pub message: u64,
}

/// Whether frontd sends a client that was served to the same process again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// Each request goes to the least busy process.
    #[default]
    Off,
    /// A cookie names the process.
    Cookie,
}
