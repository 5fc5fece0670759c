//! The project's own commands, one file each.

mod bench;
mod codegen;
mod demo;
mod dist;
mod docs;
mod interrupt;
mod setup;
mod soak;
mod step;
mod systemd_test;
mod test;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(about = "The project's own commands", disable_help_subcommand = true)]
enum Command {
    /// Measures Imperium beside nginx + uWSGI, gunicorn and granian on this machine
    Bench(bench::Arguments),
    /// Writes the gRPC code of `proto/` into `crates/api/src/generated`
    Codegen(codegen::Arguments),
    /// Sets up, and serves Flask, Django and Pyramid on this machine
    Demo(demo::Arguments),
    /// Makes what is released, in `target/dist`: an archive, a Debian package, checksums
    Dist(dist::Arguments),
    /// Builds the documentation as a website, in `target/docs`; `--write` and `--check` deal with its generated parts
    Docs(docs::Arguments),
    /// Sets up, and lets anything happen to the stack under checked load
    Soak(soak::Arguments),
    /// Sets up, and proves the systemd units on a Debian of its own; needs root
    SystemdTest(systemd_test::Arguments),
    /// Sets up, and runs all tests
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => step::failed(&error),
    }
}

fn run() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Codegen(arguments) => codegen::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Docs(arguments) => docs::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::SystemdTest(arguments) => systemd_test::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
    }
}

/// The folder of the workspace.
fn root() -> std::path::PathBuf {
    let xtask = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the workspace").to_owned()
}
