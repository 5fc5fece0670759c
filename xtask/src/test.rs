//! Runs every test, on what the set-up made.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use tests::place::{self, Place};

use crate::{setup, step};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For the test runner: a filter, or its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<String>,
}

/// Sets up, and runs the tests with nextest, or without it when it is not installed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = setup::run()?;
    let mut runner = runner();
    runner.args(&arguments.passed_on);
    tell(&mut runner, &place);
    let status = runner.status().context("run the tests")?;
    ensure!(status.success(), "tests failed");
    Ok(())
}

fn runner() -> Command {
    let mut cargo = step::cargo();
    if has_nextest() {
        cargo.args(["nextest", "run", "--workspace"]);
    } else {
        cargo.args(["test", "--workspace", "--"]);
    }
    cargo
}

fn has_nextest() -> bool {
    let mut version = step::cargo();
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn tell(command: &mut Command, place: &Place) {
    command.env(place::BINARIES, &place.binaries);
    command.env(place::VENV, &place.venv);
    command.env(place::KEPT, &place.kept);
}
