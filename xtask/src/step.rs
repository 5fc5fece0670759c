//! Shows what is being done, and how long it took.

use std::env;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Does `work` between a line that says so and a line that says how long it took.
#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
pub(crate) fn step<T>(name: &str, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    eprintln!("{} {what}", heading(name));
    let done = work()?;
    eprintln!("{} {:.1} s", heading(""), begun.elapsed().as_secs_f64());
    Ok(done)
}

/// Says why there is no more to be done.
#[expect(clippy::print_stderr, reason = "the end of a command is for the person who waits")]
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("{} {error:#}", heading("error"));
    ExitCode::FAILURE
}

pub(crate) fn heading(name: &str) -> String {
    if stderr().is_terminal() { format!("\x1b[1;36m{name:>10}\x1b[0m") } else { format!("{name:>10}") }
}

/// The cargo that runs this, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root());
    cargo
}
