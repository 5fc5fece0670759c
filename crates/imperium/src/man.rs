//! `imperium man`: the manual, as it is for the very program.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, ExitCode, Stdio};

use clap::CommandFactory;
use manual::Section;
use miette::{Diagnostic, IntoDiagnostic as _};

/// Show the manual of `imperium` or of one of its commands
///
/// It is shown by `man`; where stdout is no terminal, or `man` is not installed, it is written as roff.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command, such as `up`
    command: Option<String>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("show the manual of `imperium {0}`: there is no such command")]
#[diagnostic(help("`imperium help` lists the commands"))]
struct NoCommand(String);

/// Shows it.
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

/// Whether `man` has shown it.
fn show(page: &[u8]) -> bool {
    let Ok(mut man) = Command::new("man").args(["--local-file", "-"]).stdin(Stdio::piped()).spawn() else {
        return false;
    };
    if let Some(mut stdin) = man.stdin.take() {
        // Who leaves before the end has seen enough.
        let _left = stdin.write_all(page);
    }
    man.wait().is_ok_and(|it| it.success())
}
