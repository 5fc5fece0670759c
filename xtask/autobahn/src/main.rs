//! Runs the cases of the Autobahn test suite against an app that echoes WebSocket messages, over plain HTTP and over TLS.

mod kosoku;
mod report;
mod tunnel;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use tests::interrupt::unless_interrupted;
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;
use xtask::setup;
use xtask::step::{self, print_line};

use kosoku::Kosoku;
use report::Report;
use tunnel::Tunnel;

/// The host name in the certificate.
const HOST: &str = "echo.localhost";

/// The arguments of `cargo xtask autobahn`.
#[derive(Parser)]
#[command(
    name = "cargo xtask autobahn",
    about = "Builds the programs, and runs the cases of the Autobahn test suite against them, with PyPI's kosoku"
)]
struct Arguments {
    /// Only cases that match this pattern, such as `12.*`; may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Only over plain HTTP
    #[arg(long, conflicts_with = "tls")]
    plain: bool,
    /// Only over TLS
    #[arg(long)]
    tls: bool,
    /// How many cases run at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    parallel: u8,
    /// Build nothing, and use the programs that the tests would use (`TEST_BINARIES`)
    #[arg(long)]
    no_setup: bool,
}

fn main() -> ExitCode {
    step::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = if arguments.no_setup {
        Place::of_tests()?
    } else {
        setup::programs(&[])?;
        setup::place()
    };
    let kosoku = Kosoku::install()?;
    // The app needs no packages.
    let place = Place { venv: kosoku.venv().to_owned(), ..place };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports = runtime.block_on(unless_interrupted(check(place, &kosoku, arguments)))??;
    print(&reports);
    match reports.iter().map(|it| it.failed.len()).sum() {
        0 => Ok(()),
        failed => bail!("{failed} cases failed"),
    }
}

/// Runs the cases over each of the transports.
async fn check(place: Place, kosoku: &Kosoku, arguments: &Arguments) -> anyhow::Result<Vec<Report>> {
    let echo = Vassal::new("echo", &place.apps.join("asgi"), "echo:application").python(&place.venv);
    // kosoku's Host is the address that it connects to.
    let stack = Stack::start(place, [echo.also("*")])?;
    stack.all_ready().await?;
    let reports = on(&stack, kosoku, arguments).await;
    stack.stop_with_clients().await?;
    reports
}

async fn on(stack: &Stack, kosoku: &Kosoku, arguments: &Arguments) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut run = async |transport, address: SocketAddr| {
        print_line(transport, &format!("{address}, {} cases at a time", arguments.parallel));
        let index = kosoku.run(transport, address, arguments.parallel, &arguments.only).await?;
        reports.push(Report::read(transport, &index).with_context(|| format!("over {transport}"))?);
        anyhow::Ok(())
    };
    if !arguments.tls {
        run("plain", stack.http).await?;
    }
    if !arguments.plain {
        // kosoku doesn't speak TLS.
        let tunnel = Tunnel::open(stack.https, HOST, &stack.ca()?).await?;
        run("tls", tunnel.address()).await?;
    }
    Ok(reports)
}

#[expect(clippy::print_stdout, reason = "the result is what was asked for")]
fn print(reports: &[Report]) {
    for report in reports {
        print!("{report}");
    }
}
