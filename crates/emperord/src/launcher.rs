//! Starts worker processes, and adopts those of an earlier emperord.

mod account;
mod cgroup;
mod fork;
mod owner;
pub mod systemd;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use api::{VassalName, WorkerName};
use rustix::io::Errno;
use tokio::net::UnixStream;
use vassal::Vassal;

use account::Account;
pub use cgroup::Cgroups;
pub use fork::Fork;
pub use systemd::Systemd;

use crate::process::{Ending, Identity, Process};

/// A way to start processes.
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
    fn take_fork(
        &self,
        _worker: &WorkerName,
        _vassal: &Vassal,
        _process: &Process,
    ) -> Result<(), LaunchError> {
        Ok(())
    }

    /// Whether workers can be forked from a template.
    fn preload(&self) -> Preload {
        Preload::Possible
    }

    /// Has the service manager stop a worker: its process gets SIGTERM, and an order without a process fails.
    /// None without a service manager.
    fn stop(&self, _worker: &WorkerName) -> Option<Job> {
        None
    }

    /// Has the service manager apply an app's configuration to a running worker.
    fn change(&self, _worker: &WorkerName, _vassal: &Vassal) -> Option<Job> {
        None
    }

    /// Has the service manager forget the workers of a removed app, including failed ones.
    fn forget(&self, _app: &VassalName) -> Option<Job> {
        None
    }

    /// Asks the service manager how a process exited that isn't a child of emperord. The request is sent when
    /// the future is polled.
    fn ending(&self, _worker: &WorkerName, _identity: Identity) -> Option<Inquiry> {
        None
    }

    /// Whether `process` was started for `worker` by the service manager, whether emperord or the operator
    /// asked for it, and runs as the user of `vassal`.
    fn is_of(&self, _process: &Process, _worker: &WorkerName, _vassal: &Vassal) -> bool {
        false
    }

    /// Whether `process`, which isn't recorded, can be a worker of an earlier emperord: it runs as its app's
    /// user, who owns `folder`, the folder of the app's sockets.
    fn is_survivor(&self, process: &Process, worker: &WorkerName, vassal: &Vassal, folder: &Path) -> bool {
        let owner = folder.metadata().map(|it| it.uid());
        self.is_of(process, worker, vassal) || owner.is_ok_and(|it| process.identity().has_user(it))
    }

    /// Adopts a process that an earlier emperord started. None if it has exited.
    fn adopt(&self, identity: Identity) -> Option<Process> {
        Process::open(identity.pid).ok().filter(|it| it.identity() == identity && !it.has_ended())
    }
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

/// Whether a launcher can fork workers from a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preload {
    /// It can.
    Possible,
    /// Each worker is started individually.
    Impossible,
}

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
    /// This launcher can't fork workers.
    #[error("start a template of {0}: systemd starts each worker separately")]
    NoTemplates(VassalName),
}

impl LaunchError {
    /// Whether a retry may succeed soon without any change.
    pub(crate) fn may_pass_soon(&self) -> bool {
        match self {
            Self::Program { .. } | Self::Prepare { .. } => true,
            Self::User(_) | Self::NoTemplates(_) => false,
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
        assert!(!LaunchError::NoTemplates(VassalName::parse("blog").unwrap()).may_pass_soon());
        assert!(!LaunchError::Limits(io::Error::other("no controller `memory`")).may_pass_soon());
        assert!(!limits(Errno::ROFS).may_pass_soon() && !limits(Errno::ACCESS).may_pass_soon());
        assert!(limits(Errno::SRCH).may_pass_soon() && limits(Errno::MFILE).may_pass_soon());
    }
}
