//! The file of one app, which is all that an operator writes: parsed and resolved, with exact errors.

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
pub use path::{HealthPath, MountPath, StaticPrefix};
pub use preload::Preload;
pub use python::Python;
pub use recycle::Recycle;
pub use schema::SCHEMA;
pub use static_files::{StaticSource, Symlinks};

/// The most workers that one app may have.
pub const MAX_WORKERS: u16 = 1000;

/// One app, as its file says it should be; all paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vassal {
    /// From the file's name.
    pub name: VassalName,
    /// The file.
    pub file: PathBuf,
    /// The hosts that it answers for; at least one.
    pub domains: Vec<Domain>,
    /// The prefix that it is mounted at.
    pub path: MountPath,
    /// The callable that answers.
    pub app: App,
    /// Who said so.
    pub app_chosen_by: ChosenBy,
    /// The working directory, and first in `sys.path`; exists.
    pub directory: PathBuf,
    /// The interpreter that runs it.
    pub python: Python,
    /// How many processes it has.
    pub workers: u16,
    /// How many requests each of them works on at once.
    pub threads: u16,
    /// Whether the app is imported once, and its processes are forked from there.
    pub preload: Preload,
    /// What has to answer with 2xx in a process before it takes requests.
    pub health: Option<HealthPath>,
    /// When a process has done enough.
    pub recycle: Recycle,
    /// When all processes are replaced by themselves.
    pub reload: Reload,
    /// As whom each of them runs, and what it may take of the machine.
    pub confinement: Confinement,
    /// `[env]`: added to the environment of each, over what `env_file` has.
    pub env: BTreeMap<String, String>,
    /// A file with more of it. Each process reads it as its own user: the app's folder may be the app's to change.
    pub env_file: Option<PathBuf>,
    /// Folders and files that are served without asking the app, by their prefixes.
    pub static_folders: BTreeMap<StaticPrefix, StaticSource>,
    /// Folders whose files are sent when the app asks for it, by the prefixes that it uses for them.
    pub sendfile_folders: BTreeMap<StaticPrefix, PathBuf>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Where requests wait for a worker.
    pub queue: Queue,
    /// What one request may take.
    pub limits: Limits,
}

/// What `[static]` or `[sendfile]` names, and isn't there yet. frontd serves it as soon as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentFiles {
    /// The key, such as `static./static/`.
    pub key: String,
    /// What it names.
    pub path: PathBuf,
}

impl std::fmt::Display for AbsentFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, path } = self;
        write!(f, "{key}: {} does not exist yet: what is asked of it is a 404 until it does", path.display())
    }
}

impl Vassal {
    /// Looks at the disk for what `[static]` and `[sendfile]` name. This blocks for as long as the file system does.
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

/// Who chose the callable that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// The file says it.
    Operator,
    /// The file does not, and the app's folder makes it plain.
    Folder,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of a process until it is ready.
    pub start: Duration,
    /// From the moment a worker has a request until its response begins; None is no limit.
    pub request: Option<Duration>,
    /// From one piece of a response that has begun to the next; None is no limit.
    pub idle: Option<Duration>,
    /// For the requests that are under way when a worker is told to stop.
    pub stop: Duration,
}

/// When all processes of an app are replaced without the operator asking for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// When the app's own files change.
    pub watch: bool,
}

/// Where requests wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait.
    pub size: u32,
    /// How long each may wait.
    pub timeout: Duration,
}

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body: u64,
}
