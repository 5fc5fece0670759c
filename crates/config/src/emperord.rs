//! emperord's own file, resolved.

mod schema;

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use api::{VassalName, WorkerName};

use crate::document::Document;
use crate::layout::{self, Layout, SocketPathError};
use crate::source::Source;
use crate::{Diagnostics, Wrong, value};
pub use schema::SCHEMA;

/// Where emperord finds and keeps things; all paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmperordConfig {
    /// The folder of the apps' files.
    pub vassals: PathBuf,
    /// The socket that all of its services are on.
    pub socket: PathBuf,
    /// Holds the sockets of emperord and, in `workers/`, of the workers.
    pub run: PathBuf,
    /// Holds what must outlive emperord, such as which workers are alive.
    pub state: PathBuf,
    /// The program that becomes a worker.
    pub workerd: PathBuf,
    /// How many workers start at once, over all apps.
    pub concurrent_starts: usize,
    /// Whom the apps are run for. No key of a file: an option of the command line.
    pub mode: Mode,
}

/// Whom apps are run for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Visitors: pages say nothing of the inside of an app.
    #[default]
    Production,
    /// Its developer, who is shown tracebacks in the browser.
    Development,
}

impl EmperordConfig {
    /// What a layout without an `emperord.toml` means; `workerd` is the program beside this one.
    #[must_use]
    pub fn new(layout: &Layout, workerd: &Path) -> Self {
        Self {
            vassals: layout.vassals(),
            socket: layout.emperord_socket(),
            run: layout.run.clone(),
            state: layout.state.clone(),
            workerd: workerd.to_owned(),
            concurrent_starts: available_parallelism().map_or(2, |cores| 2 * cores.get()),
            mode: Mode::Production,
        }
    }

    /// Reads the layout's `emperord.toml`, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or with all that is wrong in it.
    pub fn load(layout: &Layout, workerd: &Path) -> Result<Self, Diagnostics> {
        match Source::read_if_there(&layout.emperord_toml())? {
            Some(source) => Self::parse(source, layout, workerd),
            None => Ok(Self::new(layout, workerd)),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// With all that is wrong in it.
    pub fn parse(source: Source, layout: &Layout, workerd: &Path) -> Result<Self, Diagnostics> {
        let mut file = Document::parse(source, SCHEMA)?;
        let path = value::path(file.folder());
        let default = Self::new(layout, workerd);
        let run = file.optional("run", &path).unwrap_or(default.run);
        let config = Self {
            vassals: file.optional("vassals", &path).unwrap_or(default.vassals),
            socket: layout::emperord_socket(&run),
            run,
            state: file.optional("state", &path).unwrap_or(default.state),
            workerd: file.optional("workerd", &path).unwrap_or(default.workerd),
            concurrent_starts: file
                .optional("concurrent_starts", value::integer(1..=10_000))
                .unwrap_or(default.concurrent_starts),
            mode: default.mode,
        };
        if let Err(error) = layout::socket_path(config.socket.clone()) {
            file.refuse("run", Wrong::new(format!("is too long: {error}")));
        }
        file.finish(Some(config))
    }

    /// The folder of an app's sockets.
    #[must_use]
    pub fn worker_folder(&self, app: &VassalName) -> PathBuf {
        layout::worker_folder(&self.run, app)
    }

    /// The socket that a worker serves frontd on.
    ///
    /// # Errors
    /// When its path is longer than unix sockets allow.
    pub fn worker_socket(&self, worker: &WorkerName) -> Result<PathBuf, SocketPathError> {
        layout::worker_socket(&self.run, worker)
    }
}

#[cfg(test)]
mod tests;
