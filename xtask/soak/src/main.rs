//! Lets everything happen to a stack that may happen, at random and under verified load.

mod action;
mod audit;
mod book;
mod chaos;
mod harm;
mod journals;
mod ledger;
mod line;
mod load;
mod memory;
mod outcome;
mod question;
mod reloads;
mod report;
mod schedule;
mod site;
mod talk;
mod talker;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use tests::log_pipe::LogPipe;
use tests::place::Place;
use tests::stack::Stack;
use tokio::time::timeout;

use book::Book;
use chaos::Chaos;
use load::{Load, Talkers};
use memory::Memory;
use report::Report;
use schedule::Schedule;
use site::{App, Site};
use tests::interrupt::unless_interrupted;
use xtask::setup;

/// For the start, the last requests and the end, which take less.
const SPARE: Duration = Duration::from_secs(240);

/// The longest silence contains a ping.
const TALKERS: Talkers = Talkers { varied: 2, longest_idle: Duration::from_secs(25), endless: 1 };

/// The arguments of `cargo xtask soak`.
#[derive(Parser)]
#[command(
    name = "cargo xtask soak",
    about = "Sets up, and lets anything happen to the stack under checked load"
)]
struct Arguments {
    /// The duration in minutes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// The seed that determines what happens and when [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Instead, only reload an ASGI app that often, one reload after the other
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    reloads: Option<u32>,
    /// Build nothing, and use the daemons and the virtualenv that the tests would use (`TEST_BINARIES`,
    /// `TEST_VENV`, `TEST_KEPT`)
    #[arg(long)]
    no_setup: bool,
}

fn main() -> ExitCode {
    xtask::step::exit(run(&Arguments::parse()))
}

/// Sets up, soaks, and reports. Fails if a promise is broken.
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = if arguments.no_setup { Place::of_tests()? } else { setup::run(&[])? };
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let length = Duration::from_secs(60 * arguments.minutes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(count) = arguments.reloads {
        let reloads = Box::pin(reloads::run(place, seed, count));
        return end(&runtime.block_on(unless_interrupted(reloads))??);
    }
    let run = async {
        let soaked = timeout(length + SPARE, Box::pin(soak(place, seed, length)));
        soaked.await.context("the soak did not end in time")?
    };
    end(&runtime.block_on(unless_interrupted(run))??)
}

fn end(report: &Report) -> anyhow::Result<()> {
    print(&report.to_string());
    ensure!(report.is_good(), "promises were broken; `--seed {}` plays the same again", report.seed);
    Ok(())
}

async fn soak(place: Place, seed: u64, length: Duration) -> anyhow::Result<Report> {
    let site = Site::make()?;
    // The log outlives the stack's folder.
    let kept = xtask::root().join("target/soak.log");
    let (log, writer) = LogPipe::into(&kept).with_context(|| format!("write {}", kept.display()))?;
    let stack = Stack::logging_to(writer, "info", place.clone(), site.vassals(&place))?;
    let soaked = on(&stack, site, &log, seed, length).await;
    stack.stop_with_clients().await?;
    soaked.with_context(|| format!("seed {seed}; the log is in {}", kept.display()))
}

async fn on(
    stack: &Stack,
    mut site: Site,
    log: &LogPipe,
    seed: u64,
    length: Duration,
) -> anyhow::Result<Report> {
    stack.all_ready().await?;
    print(&format!("      soak seed {seed}, for {length:?}"));
    let book = Book::default();
    let load = Load::start(stack, &App::ALL, TALKERS, &book, seed)?;
    let memory = Memory::watch(stack.up(), length);
    let mut chaos = Chaos::new(stack, &mut site, log, book.clone());
    let played = chaos.play(Schedule::new(seed), length).await;
    let (past, killed) = chaos.finish().await;
    let (mut seen, until) = (load.finish().await?, book.now());
    let memory = memory.finish().await?;
    seen.entries.extend(past.asked);
    let journals = journals::read(&site.journals())?;
    let audit = audit::audit(&seen, &journals, &past.harms, &past.times, until);
    Ok(Report { seed, audit, actions: past.done, memory, played: played.and(killed) })
}

#[expect(clippy::print_stdout, reason = "the report is what is asked for")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
fn print_progress(time: Duration, text: &str) {
    eprintln!("{:>8.1} s {text}", time.as_secs_f64());
}
