//! Starts workers by fork and exec, detached, so that they outlive emperord.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use api::{VassalName, WorkerName};
use daemon::logging::Format;
use tokio::net::UnixStream;
use vassal::Vassal;

use super::{LaunchError, Launcher, Start};
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
}

impl Launcher for Fork {
    fn start(&self, worker: &WorkerName, _vassal: &Vassal) -> Result<Start, LaunchError> {
        self.make_folder(&worker.vassal)?;
        let worker = worker.to_string();
        // Outputs are inherited: a pipe to emperord would break with it.
        let process = self.spawn(&[&worker], Stdio::null());
        process.map(Start::Done).map_err(|source| self.failed(source))
    }

    fn start_template(&self, app: &VassalName) -> Result<(Process, UnixStream), LaunchError> {
        self.make_folder(app)?;
        let start = || {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let process = self.spawn(&["--template", app.as_str()], OwnedFd::from(theirs).into())?;
            Ok((process, UnixStream::from_std(ours)?))
        };
        start().map_err(|source| self.failed(source))
    }
}

impl Fork {
    fn failed(&self, source: io::Error) -> LaunchError {
        LaunchError::Program { program: self.workerd.clone(), source }
    }

    /// That of an app's sockets.
    fn make_folder(&self, app: &VassalName) -> Result<(), LaunchError> {
        let path = self.sockets.join(app.as_str());
        let made = DirBuilder::new().recursive(true).mode(0o750).create(&path);
        made.map_err(|source| LaunchError::Prepare { step: "make folder", path, source })
    }

    fn spawn(&self, role: &[&str], input: Stdio) -> io::Result<Process> {
        let mut command = self.command(role);
        // A group of its own, which no signal of a terminal reaches; it leaves the terminal itself. No session of
        // its own: the kernel weighs sessions against each other, which let workers wait (ARCHITECTURE.md, "Who
        // runs next").
        command.stdin(input).process_group(0);
        // A child that is not waited for here is reaped by its pidfd.
        let child = command.spawn()?;
        Process::open(child.id())
    }

    fn command(&self, role: &[&str]) -> Command {
        let mut command = Command::new(&self.workerd);
        command.args(role).arg("--emperord").arg(&self.socket);
        command.args(["--log-format", format_name(self.log_format)]);
        // Whoever started emperord waits to hear of it alone.
        command.env_remove("NOTIFY_SOCKET");
        command
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Text => "text",
        Format::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_worker_does_not_speak_for_emperord() {
        let path = PathBuf::from("/nonexistent");
        let fork =
            Fork { workerd: path.clone(), socket: path.clone(), sockets: path, log_format: Format::Text };
        let command = fork.command(&["blog-1"]);
        assert!(command.get_envs().any(|it| it == (OsStr::new("NOTIFY_SOCKET"), None)));
    }
}
