//! `imperium man`: shows the man pages of this build.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, ExitCode, Stdio};

use clap::CommandFactory;
use manual::Section;
use miette::{Diagnostic, IntoDiagnostic as _};

/// Show the manual of `imperium` or of one of its commands
///
/// Opens the page in `man`. If stdout isn't a terminal, or `man` isn't installed, prints it as roff.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command, such as `up`
    command: Option<String>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("show the manual of `imperium {0}`: there is no such command")]
#[diagnostic(help("`imperium help` lists the commands"))]
struct NoCommand(String);

/// Shows or prints the page.
pub(crate) fn run<Cli: CommandFactory>(args: &Args) -> miette::Result<ExitCode> {
    let page = manual::page(Cli::command(), Section::Commands, args.command.as_deref())
        .ok_or_else(|| NoCommand(args.command.clone().unwrap_or_default()))?;
    if io::stdout().is_terminal() && show(&page) {
        return Ok(ExitCode::SUCCESS);
    }
    match io::stdout().lock().write_all(&page) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).into_diagnostic(),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Returns whether `man` has shown the page.
fn show(page: &[u8]) -> bool {
    let Ok(mut man) = Command::new("man").args(["--local-file", "-"]).stdin(Stdio::piped()).spawn() else {
        return false;
    };
    if let Some(mut stdin) = man.stdin.take() {
        // The write fails if the reader quits the pager early.
        let _left = stdin.write_all(page);
    }
    man.wait().is_ok_and(|it| it.success())
}
