//! Creates releases, and tests them on a server.

mod dist;
mod systemd_test;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
enum Command {
    /// Create a release in `target/dist`: an archive, a Debian package, a wheel, checksums
    Dist(dist::Arguments),
    /// Test the systemd units on a Debian of their own; needs root
    SystemdTest(systemd_test::Arguments),
}

fn main() -> ExitCode {
    xtask::step::exit(match Command::parse() {
        Command::Dist(arguments) => dist::run(&arguments),
        Command::SystemdTest(arguments) => systemd_test::run(&arguments),
    })
}
