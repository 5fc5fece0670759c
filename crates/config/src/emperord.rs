//! emperord's configuration file, resolved.

mod schema;

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use api::{VassalName, WorkerName};

use crate::document::Document;
use crate::layout::{self, Layout, SocketPathError};
use crate::source::Source;
use crate::{Diagnostics, Wrong, value};
pub use schema::SCHEMA;

/// Where emperord finds and stores things. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmperordConfig {
    /// The folder of the app files.
    pub vassals: PathBuf,
    /// The socket of all its services.
    pub socket: PathBuf,
    /// The folder of sockets: emperord's, and those of the workers in `workers/`.
    pub run: PathBuf,
    /// The folder of state that outlives emperord, such as the list of running workers.
    pub state: PathBuf,
    /// The program that becomes a worker.
    pub workerd: PathBuf,
    /// How many workers may start at the same time, over all apps.
    pub concurrent_starts: usize,
    /// Whether the apps are run for development. Set by a command-line option, not by the file.
    pub mode: Mode,
    /// What advice names. Set by a command-line option, not by the file.
    pub configured_by: ConfiguredBy,
}

/// How the operator configures the apps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfiguredBy {
    /// By keys of their files.
    #[default]
    Files,
    /// By options of `imperium up APP`, which writes the file.
    Options,
}

/// Whether apps are run for visitors or for their developer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// For visitors: pages reveal nothing about the app.
    #[default]
    Production,
    /// For the app's developer: pages show tracebacks.
    Development,
}

impl EmperordConfig {
    /// The defaults of a layout without `emperord.toml`. `workerd` is the program next to this one.
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
            configured_by: ConfiguredBy::Files,
        }
    }

    /// Reads the layout's `emperord.toml`, if it exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be read, or all its problems.
    pub fn load(layout: &Layout, workerd: &Path) -> Result<Self, Diagnostics> {
        match Source::read_if_there(&layout.emperord_toml())? {
            Some(source) => Self::parse(source, layout, workerd),
            None => Ok(Self::new(layout, workerd)),
        }
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// Returns all problems of the file.
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
            configured_by: default.configured_by,
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

    /// The folder that has a folder per app for the sockets of its workers.
    #[must_use]
    pub fn workers_folder(&self) -> PathBuf {
        layout::workers_folder(&self.run)
    }

    /// The socket on which a worker serves frontd.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is longer than unix sockets allow.
    pub fn worker_socket(&self, worker: &WorkerName) -> Result<PathBuf, SocketPathError> {
        layout::worker_socket(&self.run, worker)
    }
}

#[cfg(test)]
mod tests;
