//! Starts workers by fork and exec, detached, so that they outlive emperord.
#![expect(unsafe_code, reason = "std has no stable way to call setsid(2) in a child")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use api::WorkerName;
use daemon::logging::Format;

use super::{LaunchError, Launcher};
use crate::process::Process;

/// Runs `workerd <name> --emperord <socket> --log-format <format>`.
#[derive(Debug)]
pub struct Fork {
    /// The program.
    pub workerd: PathBuf,
    /// emperord's socket.
    pub socket: PathBuf,
    /// How workers log.
    pub log_format: Format,
}

impl Launcher for Fork {
    fn start(&self, worker: &WorkerName) -> Result<Process, LaunchError> {
        self.spawn(worker).map_err(|source| LaunchError { program: self.workerd.clone(), source })
    }
}

impl Fork {
    fn spawn(&self, worker: &WorkerName) -> io::Result<Process> {
        let mut command = Command::new(&self.workerd);
        command.arg(worker.to_string()).arg("--emperord").arg(&self.socket);
        command.args(["--log-format", format_name(self.log_format)]);
        // Outputs are inherited: a pipe to emperord would break with it.
        command.stdin(Stdio::null());
        // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe.
        unsafe { command.pre_exec(detach) };
        // A child that is not waited for here is reaped by its pidfd.
        let child = command.spawn()?;
        Process::open(child.id())
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Text => "text",
        Format::Json => "json",
    }
}

/// A session of its own: neither a terminal's signals nor its end reach the worker.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
