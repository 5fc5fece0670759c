//! Compares Imperium with nginx and Python app servers on this machine.

mod app;
mod cases;
mod course;
mod guard;
mod load;
mod machine;
mod metric;
mod outcome;
mod peers;
mod program;
mod progress;
mod report;
mod side;
mod site;
mod stack;
mod statistics;
mod target;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use cases::Case;
use clap::Parser;
use course::{Course, Pace};
use machine::Machine;
use outcome::Outcome;
use peers::Peers;
use progress::print_line;
use report::{json, svg, terminal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use site::Site;
use tests::interrupt::unless_interrupted;
use xtask::setup;

/// The arguments of `cargo xtask bench`.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Compares Imperium with nginx or Caddy in front of uWSGI, gunicorn, granian and uvicorn on this machine"
)]
struct Arguments {
    /// Run fewer and shorter rounds: less than 4 minutes, but less exact
    #[arg(long)]
    quick: bool,
    /// Run only the cases whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Measure the programs in this folder, instead of building them
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Write all results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a chart of the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    xtask::step::exit(run(&Arguments::parse()))
}

/// Sets up, measures, and reports. Missing a target is reported, but isn't an error.
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cases = cases::chosen(&arguments.only)?;
    let programs =
        arguments.programs.as_ref().map(fs::canonicalize).transpose().context("find the programs")?;
    let place = setup::for_bench(programs)?;
    allow_open_files().context("raise the limit of open files")?;
    let peers = Peers::set_up(&place);
    let machine = Machine::look(&place);
    let site = Site::make(place)?;
    let pace = if arguments.quick { Pace::QUICK } else { Pace::FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(unless_interrupted(measure(cases, Course::new(&site, &peers, pace))))?;
    report(arguments, &machine, &results)
}

/// Raises the limit of open files as far as possible, for this process and for all that it starts.
fn allow_open_files() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

async fn measure(cases: Vec<Case>, mut course: Course<'_>) -> Vec<(Case, Outcome)> {
    let (mut results, count) = (Vec::new(), cases.len());
    for (number, case) in cases.into_iter().enumerate() {
        print_line("measure", &format!("{} ({} of {count})", case.name, number + 1));
        let outcome = course.run(&case).await;
        print(&terminal::block(&case, &outcome));
        results.push((case, outcome));
    }
    results
}

fn report(arguments: &Arguments, machine: &Machine, results: &[(Case, Outcome)]) -> anyhow::Result<()> {
    print(&format!("{machine}\n{}", terminal::summary(results)));
    if let Some(file) = &arguments.json {
        let document = serde_json::to_string_pretty(&json::document(machine, results))?;
        fs::write(file, document + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        fs::write(file, svg::draw(machine, results)).with_context(|| format!("write {}", file.display()))?;
    }
    let errors: usize = results.iter().map(|(_, outcome)| outcome.errors().len()).sum();
    ensure!(errors == 0, "{errors} runs failed; their errors stand under their cases");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what is asked for")]
fn print(text: &str) {
    println!("{text}");
}
