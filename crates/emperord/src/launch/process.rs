//! Starts workers by fork and exec, detached so that they outlive emperord, each as its app's user and with
//! its limits.
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
use rustix::process::{Gid, Signal, Uid, geteuid};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use tokio::net::UnixStream;
use vassal::Vassal;

use super::account::{self, Account};
use super::cgroup::{Cgroups, Leaf, ResourceLimits};
use super::{Job, LaunchError, Launcher, Prepared, Start, Templates, owner_of};
use crate::pidfd::Process;

/// Runs `workerd <name>|--template <app> --emperord <socket> --log-format <format>`.
#[derive(Debug)]
pub struct ProcessLauncher {
    /// The program.
    pub workerd: PathBuf,
    /// emperord's socket.
    pub socket: PathBuf,
    /// The parent of the apps' folders of sockets.
    pub sockets: PathBuf,
    /// The workers' log format.
    pub log_format: Format,
    /// The workers' cgroups.
    pub cgroups: Cgroups,
}

/// The user and limits of a process.
struct Confined {
    /// None means emperord's own user.
    account: Option<Account>,
    /// The cgroup that it enters.
    leaf: Option<Leaf>,
}

impl Launcher for ProcessLauncher {
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
        // stdout and stderr are inherited: a pipe to emperord would break when emperord exits.
        let process = self.spawn(&[&name], Stdio::null(), confined);
        process.map(Start::Done).map_err(|source| self.failed(source))
    }

    fn stop(&self, _worker: &WorkerName, process: Option<&Process>) -> Option<Job> {
        if let Some(process) = process {
            process.signal(Signal::TERM);
        }
        None
    }

    fn templates(&self) -> Option<&dyn Templates> {
        Some(self)
    }
}

impl Templates for ProcessLauncher {
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

    /// It already has the user of its template, and so far its cgroup.
    fn take_fork(&self, worker: &WorkerName, vassal: &Vassal, process: &Process) -> Result<(), LaunchError> {
        let limits = limits(vassal);
        let leaf = self.cgroups.leaf(&worker.to_string(), limits).map_err(LaunchError::Limits)?;
        match leaf.map_or(Ok(()), |it| it.enter(process.identity().pid)) {
            // It stays in its template's cgroup.
            Err(_) if limits.is_none() => Ok(()),
            entered => entered.map_err(LaunchError::Limits),
        }
    }
}

impl ProcessLauncher {
    fn failed(&self, source: io::Error) -> LaunchError {
        LaunchError::Program { program: self.workerd.clone(), source }
    }

    fn confined(&self, vassal: &Vassal, name: &str, prepared: &Prepared) -> Result<Confined, LaunchError> {
        let account = prepared.account.clone();
        self.make_folder(&vassal.name, account.as_ref())?;
        let leaf = self.cgroups.leaf(name, limits(vassal)).map_err(LaunchError::Limits)?;
        Ok(Confined { account, leaf })
    }

    /// Creates the folder of an app's sockets. If the app has a user, the folder belongs to that user and to
    /// frontd's group, which files in it inherit. So frontd may enter it, but no other app.
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
        // Its own process group, so that signals of a terminal don't reach it. It detaches from the terminal
        // itself. It doesn't get its own session: the kernel balances CPU time between sessions, which made
        // workers wait (ARCHITECTURE.md, "Who runs next").
        command.stdin(input).process_group(0);
        confined.apply(&mut command);
        // The exit of this child is noticed with its pidfd.
        let child = command.spawn()?;
        Process::open(child.id())
    }

    fn command(&self, role: &[&str]) -> Command {
        let mut command = Command::new(&self.workerd);
        command.args(role).arg("--emperord").arg(&self.socket);
        command.args(["--log-format", self.log_format.name()]);
        // The service manager waits for notifications of emperord only.
        command.env_remove("NOTIFY_SOCKET");
        command
    }
}

impl Confined {
    fn apply(self, command: &mut Command) {
        let Self { account, leaf } = self;
        if let Some(account) = &account {
            // Variables from emperord's own environment aren't meant for other users.
            command.env_clear().envs(env::vars_os().filter(|(name, _)| is_for_others(name)));
            let name = OsString::from(&account.name);
            command.env("USER", &name).env("LOGNAME", &name).env("HOME", &account.home);
        }
        let groups: Vec<Gid> =
            account.iter().flat_map(|it| &it.groups).map(|gid| Gid::from_raw(*gid)).collect();
        let ids = account.map(|it| (Uid::from_raw(it.uid), Gid::from_raw(it.gid)));
        let confine = move || {
            // First: only root may enter a cgroup of another user.
            if let Some(leaf) = &leaf {
                leaf.enter(0)?;
            }
            if let Some((uid, gid)) = ids {
                // Before the app's code runs: it could push input into the terminal, which the shell would
                // execute.
                leave_terminal();
                // This process has one thread, so setting the thread's credentials is enough.
                set_thread_groups(&groups)?;
                set_thread_gid(gid)?;
                set_thread_uid(uid)?;
                set_no_new_privs(true)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes only system calls between fork and exec, and neither allocates nor locks.
        unsafe { command.pre_exec(confine) };
    }
}

/// Detaches from the terminal that started emperord. Makes only system calls: it runs between fork and exec,
/// in a process that never is a session leader.
fn leave_terminal() {
    /// `/dev/tty` may not exist although these descriptors refer to the terminal.
    const INHERITED: [RawFd; 3] = [0, 1, 2];
    let leave = |terminal: RawFd| {
        // SAFETY: TIOCNOTTY takes no argument. For descriptors that aren't this session's terminal, the
        // kernel returns an error.
        let _not_this_one = unsafe { libc::ioctl(terminal, libc::TIOCNOTTY) };
    };
    if let Ok(terminal) = open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
        leave(terminal.as_raw_fd());
    }
    INHERITED.into_iter().for_each(leave);
}

/// Whether a variable of emperord's environment is passed to workers of another user. `[env]` in an app's
/// file can add others.
fn is_for_others(name: &OsStr) -> bool {
    const PASSED: [&str; 5] = ["PATH", "LANG", "LANGUAGE", "TZ", "SHELL"];
    const PREFIXES: [&str; 2] = ["LC_", "IMPERIUM_"];
    name.to_str()
        .is_some_and(|name| PASSED.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

fn limits(vassal: &Vassal) -> ResourceLimits {
    ResourceLimits { memory: vassal.confinement.memory, cpu: vassal.confinement.cpu }
}

/// The user that an app runs as: its `user`, or the owner of its directory. None means emperord's own user.
fn account(vassal: &Vassal, owner: Option<u32>) -> Result<Option<Account>, String> {
    let own = geteuid();
    let (source_of_user, found) = match (&vassal.confinement.user, owner) {
        (Some(user), _) => (format!("`user` is {user}"), Account::named(user.as_str())),
        (None, Some(uid)) => (format!("`directory` belongs to user {uid}"), Account::numbered(uid)),
        (None, None) if own.is_root() => {
            return Err(format!("the user that {} runs as is unknown: set `user` in its file", vassal.name));
        }
        (None, None) => return Ok(None),
    };
    let account = account::known(&source_of_user, &vassal.name, found)?;
    match own.as_raw() {
        own if own == account.uid => Ok(None),
        0 => Ok(Some(account)),
        own => Err(format!(
            "{source_of_user}, and emperord runs as user {own}, which can't switch to another user: run it as root, or omit `user`"
        )),
    }
}

/// Checks that a user may traverse all folders that lead to a file.
fn check_reach(account: &Account, path: &Path) -> Result<(), String> {
    for folder in path.ancestors().skip(1) {
        // A folder that doesn't exist yet will be created so that apps can traverse it.
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
