//! Runs the compatibility grid on Imperium, or on another server for comparison, and prints a table.

mod peer;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use tests::grid::{Cell, FRAMEWORKS, Framework, Outcome, ROOT_PATH, Selection, Site};
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;
use xtask::{setup, step};

use peer::Peer;

/// The groups that a server needs no certificate for.
const PLAIN: &str = "http,mount,websocket";
const ALL: &str = "http,mount,tls,http2,websocket,websocket-tls,websocket-http2";

/// The arguments of `cargo xtask grid`.
#[derive(Parser)]
#[command(
    name = "cargo xtask grid",
    about = "Sets up, and checks the behaviours that ASGI apps rely on, with each framework"
)]
struct Arguments {
    /// Check this server instead of Imperium. granian has to be installed into the apps' virtualenv first
    #[arg(long, value_enum)]
    peer: Option<Peer>,
    /// Only this framework
    #[arg(long)]
    app: Option<String>,
    /// Only the cells whose name matches this regular expression
    #[arg(long, default_value = "")]
    only: String,
    /// Build nothing, and use what the tests would use (`TEST_BINARIES`, `TEST_VENV`, `TEST_KEPT`)
    #[arg(long)]
    no_setup: bool,
}

fn main() -> ExitCode {
    step::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = if arguments.no_setup { Place::of_tests()? } else { setup::run(&[])? };
    let frameworks = match &arguments.app {
        Some(name) => vec![Framework::named(name)?],
        None => FRAMEWORKS.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = 0;
    for framework in frameworks {
        let checked = runtime.block_on(check(&place, framework, arguments));
        let cells = checked.with_context(|| format!("check {}", framework.name))?;
        failed += print(framework, &cells);
    }
    if failed > 0 { bail!("{failed} cells failed") } else { Ok(()) }
}

async fn check(place: &Place, framework: Framework, arguments: &Arguments) -> anyhow::Result<Vec<Cell>> {
    let selection = |groups| Selection { groups, protocol: "plain", only: &arguments.only };
    match arguments.peer {
        Some(peer) => peer.serve(place, framework).await?.check(place, selection(PLAIN)).await,
        None => on_imperium(place, framework, selection(ALL)).await,
    }
}

async fn on_imperium(
    place: &Place,
    framework: Framework,
    selection: Selection<'_>,
) -> anyhow::Result<Vec<Cell>> {
    let app = Vassal::of_grid(place, framework);
    let mounted = app.clone().named(&format!("{}-mounted", framework.name)).domain(&framework.host());
    let mounted = mounted.key(&format!("path = \"{ROOT_PATH}\""));
    let app = app.also(&format!("untrusted.{}.test", framework.name));
    let stack = Stack::start(place.clone(), [app, mounted])?;
    stack.all_ready().await?;
    let https = Some((stack.https, stack.ca()?));
    let site = Site { framework, http: stack.http, https, mounted: (stack.http, ROOT_PATH) };
    let cells = site.check(place, selection).await;
    stack.stop_with_clients().await?;
    cells
}

/// Prints a framework's row and the cells that failed. Returns their number.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(framework: Framework, cells: &[Cell]) -> usize {
    let count = |outcome| cells.iter().filter(|it| it.outcome == outcome).count();
    let (ok, failed, none) = (count(Outcome::Ok), count(Outcome::Failed), count(Outcome::None));
    println!("{:<12} {ok:>4} ok {failed:>4} failed {none:>4} that it lacks", framework.name);
    for cell in cells.iter().filter(|it| it.outcome == Outcome::Failed) {
        println!("             {}: {}", cell.cell, cell.message);
    }
    failed
}
