//! Starts and stops workers.

mod account;
mod cgroup;
mod owner;
mod process;
mod template;
mod unit;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use api::{VassalName, WorkerName};
use rustix::io::Errno;
use tokio::net::UnixStream;
use vassal::Vassal;

use account::Account;
pub use cgroup::Cgroups;
pub use process::ProcessLauncher;
pub use template::{ForkId, TemplateEvent};
pub(crate) use template::{Import, Template, not_a_fork};
pub use unit::UnitLauncher;

use crate::pidfd::{Ending, Identity, Process};

/// A way to start and stop workers.
///
/// [`Launcher::admit`] and [`Launcher::prepare`] may block on disks, the network or a directory service, and
/// are called on separate threads. No other method blocks.
pub trait Launcher: Send + Sync {
    /// Checks whether the workers of an app can be started as its file says, before that version is followed.
    /// Returns the owner of its directory, if the app runs as that user. The app keeps this user even if the
    /// owner changes later.
    ///
    /// # Errors
    /// With the key that can't be applied, the reason, and what to do.
    fn admit(&self, _vassal: &Vassal) -> Result<Option<u32>, String> {
        Ok(None)
    }

    /// Looks up what starts of an app need, such as the groups of its user.
    ///
    /// # Errors
    /// If its processes can't be created.
    fn prepare(&self, _vassal: &Vassal) -> Result<Prepared, LaunchError> {
        Ok(Prepared::default())
    }

    /// Starts the process of a worker.
    ///
    /// # Errors
    /// If it can't be created.
    fn start(&self, worker: &WorkerName, vassal: &Vassal, prepared: &Prepared) -> Result<Start, LaunchError>;

    /// Stops a worker: its process, if it has one yet, gets SIGTERM. Returns the job that does so, or None if it
    /// is done.
    fn stop(&self, worker: &WorkerName, process: Option<&Process>) -> Option<Job>;

    /// What starts templates, if workers can be forked from one.
    fn templates(&self) -> Option<&dyn Templates> {
        None
    }

    /// The service manager that the workers belong to, if there is one.
    fn units(&self) -> Option<&dyn UnitManager> {
        None
    }
}

/// Starts templates, and takes over the workers that they fork.
pub trait Templates {
    /// Starts the template of an app. Returns the process and the socket for its orders.
    ///
    /// # Errors
    /// If it can't be created.
    fn start_template(
        &self,
        vassal: &Vassal,
        prepared: &Prepared,
    ) -> Result<(Process, UnixStream), LaunchError>;

    /// Takes over a worker that a template has forked.
    ///
    /// # Errors
    /// If its limits can't be set.
    fn take_fork(&self, worker: &WorkerName, vassal: &Vassal, process: &Process) -> Result<(), LaunchError>;
}

/// What a service manager does for workers besides starting and stopping them.
pub trait UnitManager {
    /// Applies an app's configuration to a running worker.
    fn change(&self, worker: &WorkerName, vassal: &Vassal) -> Job;

    /// Forgets the workers of a removed app, including failed ones.
    fn forget(&self, app: &VassalName) -> Job;

    /// Asks how a process exited that isn't a child of emperord. The request is sent when the future is polled.
    fn ending(&self, worker: &WorkerName, identity: Identity) -> Inquiry;

    /// Whether `process` was started for `worker` by the service manager, whether emperord or the operator
    /// asked for it, and runs as the user of `vassal`.
    fn is_of(&self, process: &Process, worker: &WorkerName, vassal: &Vassal) -> bool;
}

/// The data that starts of an app need.
#[derive(Debug, Default)]
pub struct Prepared {
    /// None means emperord's own user, or that somebody else switches users.
    account: Option<Account>,
}

/// The result of starting a worker.
pub enum Start {
    /// Its process.
    Done(Process),
    /// The service manager starts it, and the process identifies itself. The job completes when the worker is
    /// ready, or fails.
    Ordered(Job),
}

/// A pending operation of the service manager.
pub type Job = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// Why the service manager's operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Retrying is useless before something is changed, for example if the user doesn't exist.
    #[error("{0}")]
    Refused(String),
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

/// How a process exited, once the service manager has reported it.
pub type Inquiry = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// Why a process couldn't be created.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program can't be run.
    #[error("start {}: {source}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Something that it needs can't be set up.
    #[error("{step} {}: {source}", path.display())]
    Prepare {
        /// The step that failed.
        step: &'static str,
        /// The path that it was applied to.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The user is unknown, or emperord can't switch to it.
    #[error("{0}")]
    User(String),
    /// Its limits can't be set.
    #[error("set the memory and CPU limits: {0}")]
    Limits(#[source] io::Error),
}

impl LaunchError {
    /// Whether a retry may succeed soon without any change.
    pub(crate) fn may_pass_soon(&self) -> bool {
        match self {
            Self::Program { .. } | Self::Prepare { .. } => true,
            Self::User(_) => false,
            // The system lacks resources, or the process has exited meanwhile.
            Self::Limits(error) => {
                [Errno::SRCH, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::BUSY]
                    .iter()
                    .any(|it| error.raw_os_error() == Some(it.raw_os_error()))
            }
        }
    }
}

/// Returns the owner of an app's directory, who runs the app.
fn owner_of(vassal: &Vassal) -> Result<u32, String> {
    let directory = vassal.directory.display();
    match owner::owner(&vassal.directory) {
        Ok(0) => Err(format!(
            "`directory` {directory} belongs to root: set `user`, or give the folder to a user of its own; \
             `user = \"root\"` runs the app as root"
        )),
        Ok(uid) => Ok(uid),
        Err(error) => {
            Err(format!("`directory` doesn't determine the user of the app: {error}, or set `user`"))
        }
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(process) => f.debug_tuple("Done").field(process).finish(),
            Self::Ordered(_) => f.write_str("Ordered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_errors_are_recognized() {
        let limits = |errno: Errno| LaunchError::Limits(errno.into());
        assert!(!LaunchError::User("user `blog` does not exist".to_owned()).may_pass_soon());
        assert!(!LaunchError::Limits(io::Error::other("no controller `memory`")).may_pass_soon());
        assert!(!limits(Errno::ROFS).may_pass_soon() && !limits(Errno::ACCESS).may_pass_soon());
        assert!(limits(Errno::SRCH).may_pass_soon() && limits(Errno::MFILE).may_pass_soon());
    }
}
