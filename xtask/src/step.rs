//! Displays the current step, and how long it took.

use std::env;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, ensure};

/// Runs `work`, and prints a line before and after it. The second one has the duration.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(name: &str, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    print_line(name, what);
    let done = work()?;
    print_line("", &format!("{:.1} s", begun.elapsed().as_secs_f64()));
    Ok(done)
}

/// Prints a message for the user.
#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
pub fn print_line(name: &str, what: &str) {
    eprintln!("{} {what}", heading(name));
}

/// Converts the outcome of a command to an exit status, and prints the error.
#[must_use]
pub fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line("error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The beginning of a line.
#[must_use]
pub fn heading(name: &str) -> String {
    if stderr().is_terminal() { format!("\x1b[1;36m{name:>12}\x1b[0m") } else { format!("{name:>12}") }
}

/// The cargo that runs this command, in the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root());
    cargo
}

/// Runs cargo, which shows its own progress.
///
/// # Errors
/// If it fails.
pub fn done(mut cargo: Command) -> anyhow::Result<()> {
    let status = cargo.status().context("run cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}
