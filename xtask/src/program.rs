//! Commands that are separate programs.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use xtask::{setup, step};

/// Builds a program of this workspace, and becomes it.
pub(crate) fn run(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    step::done(setup::cargo_build(&["--bin", name]))?;
    become_it(name, arguments)
}

/// Becomes a program that was already built.
pub(crate) fn become_it(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    let program = setup::place().binaries.join(name);
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("run {}", program.display()))
}
