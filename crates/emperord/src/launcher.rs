//! Starts the processes of workers, and finds those that an earlier emperord started.

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
/// [`Launcher::admit`] and [`Launcher::prepare`] may wait for disks, the network or a directory service, and are called on
/// threads of their own. Nothing else does.
pub trait Launcher: Send + Sync {
    /// Whether the workers of an app can be started as its file says, before that version of it is followed; gives who
    /// owns its directory, where that is who runs it. From then on it is: a later owner runs nothing.
    ///
    /// # Errors
    /// With the key that cannot be followed, why, and what to do.
    fn admit(&self, _vassal: &Vassal) -> Result<Option<u32>, String> {
        Ok(None)
    }

    /// Finds out what starts of an app need to know, such as the groups of its user.
    ///
    /// # Errors
    /// When its processes cannot be made.
    fn prepare(&self, _vassal: &Vassal) -> Result<Prepared, LaunchError> {
        Ok(Prepared::default())
    }

    /// Starts the process of a worker.
    ///
    /// # Errors
    /// When it cannot be made.
    fn start(&self, worker: &WorkerName, vassal: &Vassal, prepared: &Prepared) -> Result<Start, LaunchError>;

    /// Starts the process that the workers of an app are forked from, and gives the way to speak with it.
    ///
    /// # Errors
    /// When it cannot be made.
    fn start_template(
        &self,
        vassal: &Vassal,
        prepared: &Prepared,
    ) -> Result<(Process, UnixStream), LaunchError>;

    /// Takes over a worker that a template has forked.
    ///
    /// # Errors
    /// When its limits cannot be set.
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

    /// Has the service manager stop a worker: SIGTERM for its process, and an order that has not brought one ends as
    /// failed. None where there is no manager.
    fn stop(&self, _worker: &WorkerName) -> Option<Job> {
        None
    }

    /// Has the service manager follow what a running worker's app says now.
    fn change(&self, _worker: &WorkerName, _vassal: &Vassal) -> Option<Job> {
        None
    }

    /// Has the service manager forget the workers of an app that is no more, those too that it says have failed.
    fn forget(&self, _app: &VassalName) -> Option<Job> {
        None
    }

    /// Asks the service manager how a process that is no child of emperord has ended. Not done before it is awaited.
    fn ending(&self, _worker: &WorkerName, _identity: Identity) -> Option<Inquiry> {
        None
    }

    /// Whether `process` was started for `worker` by the service manager, be it at emperord's order or the operator's, and
    /// as the user that `vassal` says.
    fn is_of(&self, _process: &Process, _worker: &WorkerName, _vassal: &Vassal) -> bool {
        false
    }

    /// Whether `process`, of which nothing is written down, can be a worker that an earlier emperord started: it has
    /// the user of its app, to whom `folder`, that of the app's sockets, was given.
    fn is_survivor(&self, process: &Process, worker: &WorkerName, vassal: &Vassal, folder: &Path) -> bool {
        let owner = folder.metadata().map(|it| it.uid());
        self.is_of(process, worker, vassal) || owner.is_ok_and(|it| process.identity().has_user(it))
    }

    /// Takes over a process that an earlier emperord started; None when it has ended.
    fn adopt(&self, identity: Identity) -> Option<Process> {
        Process::open(identity.pid).ok().filter(|it| it.identity() == identity && !it.has_ended())
    }
}

/// What starts of an app need to know.
#[derive(Debug, Default)]
pub struct Prepared {
    /// None is as emperord does, or as somebody else sees to.
    account: Option<Account>,
}

/// How the start of a worker goes on.
pub enum Start {
    /// This is its process.
    Done(Process),
    /// The service manager starts it: the process says its name itself. The job ends when the worker is ready,
    /// or with why it will not be.
    Ordered(Job),
}

/// What somebody else does, to its end; or why it was not done.
pub type Job = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// Why somebody else did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Another try does no better before something is changed, such as a user that does not exist.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// How a process ended, once the service manager has told.
pub type Inquiry = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// Whether a launcher can fork workers from a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preload {
    /// It can.
    Possible,
    /// Each worker is started by itself.
    Impossible,
}

/// Why a process could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program cannot be run.
    #[error("start {}: {source}", program.display())]
    Program {
        /// What was to be run.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that it needs cannot be put in place.
    #[error("{step} {}: {source}", path.display())]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not known as whom, or nobody can be that.
    #[error("{0}")]
    User(String),
    /// Its limits cannot be set.
    #[error("set the limits of memory and processors: {0}")]
    Limits(#[source] io::Error),
    /// Workers are no forks here.
    #[error("start a template of {0}: systemd starts each worker by itself")]
    NoTemplates(VassalName),
}

impl LaunchError {
    /// Whether another try may do within moments, with nothing changed.
    pub(crate) fn may_pass_soon(&self) -> bool {
        match self {
            Self::Program { .. } | Self::Prepare { .. } => true,
            Self::User(_) | Self::NoTemplates(_) => false,
            // The machine is short of something, or the process has ended meanwhile.
            Self::Limits(error) => {
                [Errno::SRCH, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::BUSY]
                    .iter()
                    .any(|it| error.raw_os_error() == Some(it.raw_os_error()))
            }
        }
    }
}

/// Who owns the directory of an app, and so runs it.
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
    fn what_may_pass_soon() {
        let limits = |errno: Errno| LaunchError::Limits(errno.into());
        assert!(!LaunchError::User("user `blog` does not exist".to_owned()).may_pass_soon());
        assert!(!LaunchError::NoTemplates(VassalName::parse("blog").unwrap()).may_pass_soon());
        assert!(!LaunchError::Limits(io::Error::other("no controller `memory`")).may_pass_soon());
        assert!(!limits(Errno::ROFS).may_pass_soon() && !limits(Errno::ACCESS).may_pass_soon());
        assert!(limits(Errno::SRCH).may_pass_soon() && limits(Errno::MFILE).may_pass_soon());
    }
}
