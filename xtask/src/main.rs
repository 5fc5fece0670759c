//! The project's own commands. Large ones are separate programs, which are built on demand.

mod demo;
mod imports;
mod program;
mod test;

use std::env;
use std::process::ExitCode;

use anyhow::bail;
use xtask::{setup, step};

const HELP: &str = "\
The project's own commands

Usage: cargo xtask COMMAND

Commands:
  build         Builds the programs, into target/debug
  demo          Sets up, and serves Flask, Django, Pyramid and FastAPI on this machine;
                --check makes the requests that a visitor would, prints a line for each, and ends
  test          Sets up, and runs all tests; what follows `--` is for the test runner: a filter, or its options;
                --skipped runs those that the last run skipped, such as what needs root
  autobahn      Runs the cases of the Autobahn test suite for WebSockets, over plain HTTP and TLS
  bench         Compares Imperium with nginx or Caddy in front of uWSGI, gunicorn, granian and uvicorn on this machine
  codegen       Writes the gRPC code of `proto/` into `crates/api/src/generated`
  dist          Makes what is released, in `target/dist`: an archive, a Debian package, a wheel, checksums
  docs          Builds the documentation as a website, in `target/docs`; --write and --check deal with its generated parts
  grid          Sets up, and checks what ASGI apps rely on, with each framework; --peer NAME checks another server
  imports       Checks that no modules import each other in a circle, and that imports point down as ARCHITECTURE.md shows
  soak          Sets up, and lets anything happen to the stack under checked load
  systemd-test  Proves the systemd units on a Debian of its own; needs root

autobahn, bench, codegen, dist, docs, grid, soak and systemd-test explain their options with --help.
";

fn main() -> ExitCode {
    step::exit(run())
}

#[expect(clippy::print_stdout, reason = "the help is what was asked for")]
fn run() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let asks_for_help = rest.first().is_some_and(|it| ["-h", "--help"].contains(&it.as_str()));
    match command.as_str() {
        "" | "help" | "-h" | "--help" => print!("{HELP}"),
        "build" | "demo" | "imports" | "test" if asks_for_help => print!("{HELP}"),
        "build" if rest.is_empty() => setup::programs(&[])?,
        "build" => bail!("`cargo xtask build` takes no options, not {}", rest.join(" ")),
        "demo" => demo::run(&rest)?,
        "imports" => imports::run(&rest)?,
        "test" => test::run(&rest)?,
        "autobahn" | "bench" | "codegen" | "docs" | "grid" | "soak" => program::run(&command, &rest)?,
        "dist" | "systemd-test" => program::run("packaging", &[vec![command], rest].concat())?,
        _ => bail!("there is no command `{command}`: `cargo xtask help` lists them"),
    }
    Ok(())
}
