//! Reloads an ASGI app again and again, under checked load of requests and WebSockets: nothing may be lost.

use std::time::Duration;

use anyhow::Context as _;
use tests::log_pipe::LogPipe;
use tests::place::Place;
use tests::stack::Stack;

use super::action::Action;
use super::audit::{self, Excuse, Times};
use super::book::Book;
use super::load::{Load, Talkers};
use super::memory::Memory;
use super::report::Report;
use super::site::{App, Site};
use super::{journals, print, print_progress};

/// The endless ones live through more reloads than old workers are kept for.
const TALKERS: Talkers = Talkers { varied: 4, longest_idle: Duration::from_secs(3), endless: 1 };
/// The time for a reload from which the interval of memory samples is computed.
const ABOUT: Duration = Duration::from_secs(2);

/// Reloads the app that many times, each time once the last reload is done.
///
/// # Errors
/// If the stack doesn't start or stop.
pub(crate) async fn run(place: Place, seed: u64, count: u32) -> anyhow::Result<Report> {
    let site = Site::make()?;
    let kept = xtask::root().join("target/reloads.log");
    let (_log, writer) = LogPipe::into(&kept).with_context(|| format!("write {}", kept.display()))?;
    let vassal = site.vassal(&place, App::Async);
    let stack = Stack::logging_to(writer, "info", place.clone(), [vassal])?;
    let report = on(&stack, &site, seed, count).await;
    stack.stop_with_clients().await?;
    report.with_context(|| format!("the log is in {}", kept.display()))
}

async fn on(stack: &Stack, site: &Site, seed: u64, count: u32) -> anyhow::Result<Report> {
    stack.all_ready().await?;
    print(&format!("      {count} reloads, seed {seed}"));
    let (book, mut actions, mut times) = (Book::default(), Vec::new(), Times::default());
    let load = Load::start(stack, &[App::Async], TALKERS, &book, seed)?;
    let memory = Memory::watch(stack.up(), ABOUT * count);
    let played = async {
        for number in 1..=count {
            let begun = book.now();
            let told = stack.command("reload", &[App::Async.name()]).await;
            let told = told.with_context(|| format!("reload {number}, {begun:.1?} after the begin"))?;
            times.replacements.push((begun, book.now()));
            let took = book.now().saturating_sub(begun);
            print_progress(begun, &format!("reload {number} of {count}, {took:.1?}; {}", told.trim()));
            actions.push(Action::Reload(App::Async));
        }
        anyhow::Ok(())
    };
    let played = played.await;
    let (seen, until) = (load.finish().await?, book.now());
    let memory = memory.finish().await?;
    let mut audit = audit::audit(&seen, &journals::read(&site.journals())?, &[], &times, until);
    // Nothing was killed, so nothing else is an excuse.
    let excused = audit.excused.iter().filter(|(excuse, _)| **excuse != Excuse::KeptTooMany);
    audit.broken += excused.map(|(_, count)| count).sum::<u64>();
    Ok(Report { seed, audit, actions, memory, played })
}
