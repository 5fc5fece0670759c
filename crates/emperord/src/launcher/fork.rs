//! Starts workers by fork and exec, detached, so that they outlive emperord: each as its app's user, with its limits.
#![expect(unsafe_code, reason = "a process can become another user only between fork and exec")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api::{VassalName, WorkerName};
use daemon::logging::Format;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use tokio::net::UnixStream;
use vassal::Vassal;

use super::account::{self, Account};
use super::cgroup::{Cgroups, Leaf, Limits};
use super::{LaunchError, Launcher, Prepared, Start, owner_of};
use crate::process::Process;

/// Runs `workerd <name>|--template <app> --emperord <socket> --log-format <format>`.
#[derive(Debug)]
pub struct Fork {
    /// The program.
    pub workerd: PathBuf,
    /// emperord's socket.
    pub socket: PathBuf,
    /// Holds the folders of the workers' sockets, one for each app.
    pub sockets: PathBuf,
    /// How workers log.
    pub log_format: Format,
    /// Where each worker has its own, with its limits.
    pub cgroups: Cgroups,
}

/// As whom a process runs, and what it may take.
struct Confined {
    /// None is as emperord does.
    account: Option<Account>,
    /// The cgroup that it enters.
    leaf: Option<Leaf>,
}

impl Launcher for Fork {
    fn admit(&self, vassal: &Vassal) -> Result<Option<u32>, String> {
        let owner = match &vassal.confinement.user {
            None if geteuid().is_root() => Some(owner_of(vassal)?),
            _ => None,
        };
        if let Some(account) = account(vassal, owner)? {
            [&self.socket, &self.sockets.join("x"), &self.workerd]
                .into_iter()
                .try_for_each(|path| check_reach(&account, path))?;
        }
        self.cgroups.check(limits(vassal))?;
        Ok(owner)
    }

    fn prepare(&self, vassal: &Vassal) -> Result<Prepared, LaunchError> {
        let account = account(vassal, vassal.confinement.owner).map_err(LaunchError::User)?;
        Ok(Prepared { account })
    }

    fn start(&self, worker: &WorkerName, vassal: &Vassal, prepared: &Prepared) -> Result<Start, LaunchError> {
        let name = worker.to_string();
        let confined = self.confined(vassal, &name, prepared)?;
        // Outputs are inherited: a pipe to emperord would break with it.
        let process = self.spawn(&[&name], Stdio::null(), confined);
        process.map(Start::Done).map_err(|source| self.failed(source))
    }

    fn start_template(
        &self,
        vassal: &Vassal,
        prepared: &Prepared,
    ) -> Result<(Process, UnixStream), LaunchError> {
        let app = vassal.name.as_str();
        let confined = self.confined(vassal, &format!("{app}-template"), prepared)?;
        let start = || {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let input = OwnedFd::from(theirs).into();
            let process = self.spawn(&["--template", app], input, confined)?;
            Ok((process, UnixStream::from_std(ours)?))
        };
        start().map_err(|source| self.failed(source))
    }

    /// It has the user of its template already, and until here the cgroup.
    fn take_fork(&self, worker: &WorkerName, vassal: &Vassal, process: &Process) -> Result<(), LaunchError> {
        let limits = limits(vassal);
        let leaf = self.cgroups.leaf(&worker.to_string(), limits).map_err(LaunchError::Limits)?;
        match leaf.map_or(Ok(()), |it| it.enter(process.identity().pid)) {
            // It stays in that of its template.
            Err(_) if limits.is_none() => Ok(()),
            entered => entered.map_err(LaunchError::Limits),
        }
    }
}

impl Fork {
    fn failed(&self, source: io::Error) -> LaunchError {
        LaunchError::Program { program: self.workerd.clone(), source }
    }

    fn confined(&self, vassal: &Vassal, name: &str, prepared: &Prepared) -> Result<Confined, LaunchError> {
        let account = prepared.account.clone();
        self.make_folder(&vassal.name, account.as_ref())?;
        let leaf = self.cgroups.leaf(name, limits(vassal)).map_err(LaunchError::Limits)?;
        Ok(Confined { account, leaf })
    }

    /// That of an app's sockets. With a user of its own, the app's, where frontd may enter and no other app: what is made
    /// in it has frontd's group.
    fn make_folder(&self, app: &VassalName, account: Option<&Account>) -> Result<(), LaunchError> {
        let path = self.sockets.join(app.as_str());
        let make = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
            if let Some(account) = account {
                chown(&path, Some(account.uid), Some(self.sockets.metadata()?.gid()))?;
                set_permissions(&path, Permissions::from_mode(0o2750))?;
            }
            Ok(())
        };
        make().map_err(|source| LaunchError::Prepare { step: "make folder", path, source })
    }

    fn spawn(&self, role: &[&str], input: Stdio, confined: Confined) -> io::Result<Process> {
        let mut command = self.command(role);
        // A group of its own, which no signal of a terminal reaches; it leaves the terminal itself. No session of
        // its own: the kernel weighs sessions against each other, which let workers wait (ARCHITECTURE.md, "Who
        // runs next").
        command.stdin(input).process_group(0);
        confined.apply(&mut command);
        // A child that is not waited for here is reaped by its pidfd.
        let child = command.spawn()?;
        Process::open(child.id())
    }

    fn command(&self, role: &[&str]) -> Command {
        let mut command = Command::new(&self.workerd);
        command.args(role).arg("--emperord").arg(&self.socket);
        command.args(["--log-format", self.log_format.name()]);
        // Whoever started emperord waits to hear of it alone.
        command.env_remove("NOTIFY_SOCKET");
        command
    }
}

impl Confined {
    fn apply(self, command: &mut Command) {
        let Self { account, leaf } = self;
        if let Some(account) = &account {
            // What whoever started emperord has in its environment is not that user's business.
            command.env_clear().envs(env::vars_os().filter(|(name, _)| is_for_others(name)));
            let name = OsString::from(&account.name);
            command.env("USER", &name).env("LOGNAME", &name).env("HOME", &account.home);
        }
        let groups: Vec<Gid> =
            account.iter().flat_map(|it| &it.groups).map(|gid| Gid::from_raw(*gid)).collect();
        let ids = account.map(|it| (Uid::from_raw(it.uid), Gid::from_raw(it.gid)));
        let confine = move || {
            // First: only root may enter a cgroup that is not its own.
            if let Some(leaf) = &leaf {
                leaf.enter(0)?;
            }
            if let Some((uid, gid)) = ids {
                // Before any code of the app's runs: it could type into a terminal what its shell then runs.
                leave_terminal();
                // This process has one thread: what holds for the thread holds for all of it.
                set_thread_groups(&groups)?;
                set_thread_gid(gid)?;
                set_thread_uid(uid)?;
                set_no_new_privs(true)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec there are but system calls; nothing is allocated or locked.
        unsafe { command.pre_exec(confine) };
    }
}

/// Gives up the terminal of who started emperord. Only system calls: it is run between fork and exec, by a process that
/// never leads its session.
fn leave_terminal() {
    /// Where outputs lead to it, `/dev/tty` need not be there.
    const INHERITED: [RawFd; 3] = [0, 1, 2];
    let leave = |terminal: RawFd| {
        // SAFETY: TIOCNOTTY takes no argument; of what is no terminal of this session, the kernel answers with an error.
        let _not_this_one = unsafe { libc::ioctl(terminal, libc::TIOCNOTTY) };
    };
    if let Ok(terminal) = open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
        leave(terminal.as_raw_fd());
    }
    INHERITED.into_iter().for_each(leave);
}

/// Whether a variable of emperord's own environment is passed to the workers of another user. `[env]` of an app's file
/// adds to these.
fn is_for_others(name: &OsStr) -> bool {
    const PASSED: [&str; 5] = ["PATH", "LANG", "LANGUAGE", "TZ", "SHELL"];
    const PREFIXES: [&str; 2] = ["LC_", "IMPERIUM_"];
    name.to_str()
        .is_some_and(|name| PASSED.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

fn limits(vassal: &Vassal) -> Limits {
    Limits { memory: vassal.confinement.memory, cpu: vassal.confinement.cpu }
}

/// As whom an app runs: its `user`, or else the owner of its directory; None is as emperord itself does.
fn account(vassal: &Vassal, owner: Option<u32>) -> Result<Option<Account>, String> {
    let own = geteuid();
    let (said, found) = match (&vassal.confinement.user, owner) {
        (Some(user), _) => (format!("`user` is {user}"), Account::named(user.as_str())),
        (None, Some(uid)) => (format!("`directory` belongs to user {uid}"), Account::numbered(uid)),
        (None, None) if own.is_root() => {
            return Err(format!("the user that {} runs as is unknown: set `user` in its file", vassal.name));
        }
        (None, None) => return Ok(None),
    };
    let account = account::known(&said, &vassal.name, found)?;
    match own.as_raw() {
        own if own == account.uid => Ok(None),
        0 => Ok(Some(account)),
        own => Err(format!(
            "{said}, and emperord runs as user {own}, who cannot become another: run it as root, or leave `user` out"
        )),
    }
}

/// Whether a user may pass all folders on the way to a file.
fn check_reach(account: &Account, path: &Path) -> Result<(), String> {
    for folder in path.ancestors().skip(1) {
        // One that is not there yet is made so that apps can pass.
        let Ok(it) = folder.metadata() else { continue };
        let bit = match (it.uid() == account.uid, account.groups.contains(&it.gid())) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if it.mode() & bit == 0 {
            return Err(format!(
                "it runs as user {}, who cannot reach {}: {} is closed: `chmod o+x {}`, or choose another place",
                account.name,
                path.display(),
                folder.display(),
                folder.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
