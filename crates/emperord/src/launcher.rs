//! Starts the processes of workers, and finds those that an earlier emperord started.

mod fork;

use std::io;
use std::path::PathBuf;

use api::{VassalName, WorkerName};
use tokio::net::UnixStream;

pub use fork::Fork;

use crate::process::{Identity, Process};

/// A way to start processes.
pub trait Launcher {
    /// Starts the process of a worker.
    ///
    /// # Errors
    /// When it cannot be made.
    fn start(&self, worker: &WorkerName) -> Result<Process, LaunchError>;

    /// Starts the process that the workers of an app are forked from, and gives the way to speak with it.
    ///
    /// # Errors
    /// When it cannot be made.
    fn start_template(&self, app: &VassalName) -> Result<(Process, UnixStream), LaunchError>;

    /// Takes over a process that an earlier emperord started; None when it has ended.
    fn adopt(&self, identity: Identity) -> Option<Process> {
        Process::open(identity.pid).ok().filter(|it| it.identity() == identity && !it.has_ended())
    }
}

/// Why a process could not be made.
#[derive(Debug, thiserror::Error)]
#[error("start {}: {source}", program.display())]
pub struct LaunchError {
    program: PathBuf,
    source: io::Error,
}
