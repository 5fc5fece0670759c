//! Carries out the schedule, and records the harm that was done.

mod clients;
mod files;
mod sockets;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tests::client::Protocol;
use tests::keep_alive::KeepAlive;
use tests::log_pipe::LogPipe;
use tests::process::{self, Process};
use tests::stack::Stack;
use tests::wait::until;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::action::Action;
use super::audit::Times;
use super::book::Book;
use super::harm::{Cause, Harm};
use super::ledger::Entry;
use super::line::Line;
use super::print_progress;
use super::question::Question;
use super::schedule::{Schedule, Step};
use super::site::{App, Site};

/// Shorter than any limit, so that nobody may notice it.
const NAP: Duration = Duration::from_millis(300);
/// How long workers are replaced after an action that causes it.
const REPLACEMENT: Duration = Duration::from_secs(20);
/// Each restart of emperord gives a silent worker its time again.
const LONGEST_FREEZE: Duration = Duration::from_secs(150);
const NO_TOML: &str = "wokers = 3\n";

/// Carries out actions on a stack.
pub(crate) struct Chaos<'a> {
    stack: &'a Stack,
    site: &'a mut Site,
    log: &'a LogPipe,
    book: Book,
    past: Past,
    frozen: JoinSet<anyhow::Result<Harm>>,
    /// Those that were told to stop. They may drain for a while.
    old_frontds: Vec<u32>,
    /// Clients that are only awaited at the end.
    crowd: JoinSet<()>,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) done: Vec<Action>,
    pub(crate) harms: Vec<Harm>,
    pub(crate) times: Times,
    /// Requests that were sent to do harm.
    pub(crate) asked: Vec<Entry>,
}

impl<'a> Chaos<'a> {
    pub(crate) fn new(stack: &'a Stack, site: &'a mut Site, log: &'a LogPipe, book: Book) -> Self {
        Self {
            stack,
            site,
            log,
            book,
            past: Past::default(),
            frozen: JoinSet::new(),
            old_frontds: Vec::new(),
            crowd: JoinSet::new(),
        }
    }

    /// Carries out the schedule for that long, and waits until the stack has settled.
    ///
    /// # Errors
    /// If the expected result of an action doesn't occur.
    pub(crate) async fn play(&mut self, schedule: Schedule, length: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + length;
        for Step { pause, action, which } in schedule {
            if Instant::now() + pause >= end {
                break;
            }
            sleep(pause).await;
            self.timed(action, which).await?;
        }
        self.timed(Action::Settle, 0).await
    }

    /// Waits until all frozen workers have been killed, and returns what has happened.
    ///
    /// # Errors
    /// The second value is an error if one of them is still running.
    pub(crate) async fn finish(mut self) -> (Past, anyhow::Result<()>) {
        let mut outcome = Ok(());
        while let Some(harm) = self.frozen.join_next().await {
            match harm.context("wait for a frozen worker").flatten() {
                Ok(harm) => self.past.harms.push(harm),
                Err(error) => outcome = Err(error),
            }
        }
        (self.past, outcome)
    }

    async fn timed(&mut self, action: Action, which: usize) -> anyhow::Result<()> {
        let begun = self.book.now();
        if action.may_replace(App::Async) {
            self.past.times.replacements.push((begun, begun + REPLACEMENT));
        }
        let done = Box::pin(self.act(action, which)).await;
        print_progress(begun, &format!("{action}, {:.1?}", self.book.now().saturating_sub(begun)));
        self.past.done.push(action);
        done.with_context(|| format!("{action}, {begun:.1?} after the begin"))
    }

    async fn act(&mut self, action: Action, which: usize) -> anyhow::Result<()> {
        match action {
            Action::Kill(app) => self.kill(app, which).await,
            Action::Exit(app) => self.ask(app, Question::Deadly).await,
            Action::ExitTwice(app) => self.ask(app, Question::DeadlyTwice).await,
            Action::Freeze(app) => self.freeze(app, which).await,
            Action::Nap(app) => self.nap(app, which).await,
            Action::Reload(app) => self.stack.touch(app.name()),
            Action::Scale(app, workers) => self.scale(app, workers).await,
            Action::Edit(app, workers) => {
                self.site.settings(app).workers = workers;
                self.put(app)
            }
            Action::Preload(app) => {
                let settings = self.site.settings(app);
                settings.import = settings.import.other();
                self.put(app)
            }
            Action::Misspell(app) => self.misspell(app).await,
            Action::AbandonReload(app) => self.abandon_reload(app, which).await,
            Action::SlowClients(app) => self.slow_clients(app),
            Action::VanishingClients(app) => self.vanishing_clients(app).await,
            Action::SlowSockets => self.bad_sockets(sockets::Manner::Slow),
            Action::VanishingSockets => self.bad_sockets(sockets::Manner::Vanishing),
            Action::FloodingSockets => self.bad_sockets(sockets::Manner::Flooding),
            Action::FillLog(app) => self.fill_log(app).await,
            Action::EmptyFolder => self.empty_folder().await,
            Action::ReplaceFolder => self.replace_folder().await,
            Action::LoseWorkers => self.lose_workers(files::List::Gone).await,
            Action::DamageWorkers => self.lose_workers(files::List::Damaged).await,
            Action::KillEmperord => self.end_emperord(Signal::KILL).await,
            Action::RestartEmperord => self.end_emperord(Signal::TERM).await,
            Action::KillFrontd => self.end_frontd(Signal::KILL).await,
            Action::RestartFrontd => self.end_frontd(Signal::TERM).await,
            Action::Settle => self.settle().await,
        }
    }

    async fn kill(&mut self, app: App, which: usize) -> anyhow::Result<()> {
        let (from, worker) = (self.book.now(), self.worker(app, which).await?);
        let _it_may_have_ended = process::signal(worker.pid, Signal::KILL);
        self.ends(&worker).await?;
        self.harmed(app, worker.pid, Cause::Killed, from);
        Ok(())
    }

    async fn ask(&mut self, app: App, question: Question) -> anyhow::Result<()> {
        let wire = KeepAlive::new(self.stack.client(app.name(), Protocol::Http1)?);
        let entry = Line::new(app, wire, self.book.clone()).ask(question).await;
        self.past.asked.push(entry);
        Ok(())
    }

    /// The supervisor has to detect and kill it, which is awaited in the background.
    async fn freeze(&mut self, app: App, which: usize) -> anyhow::Result<()> {
        let (from, worker) = (self.book.now(), self.worker(app, which).await?);
        if process::signal(worker.pid, Signal::STOP).is_err() {
            return Ok(());
        }
        let book = self.book.clone();
        self.frozen.spawn_blocking(move || {
            ensure!(
                process::ends(worker.pid, LONGEST_FREEZE),
                "the frozen worker {} of {app} is still running",
                worker.pid
            );
            Ok(Harm { app, pid: worker.pid, cause: Cause::Frozen, from, to: book.now() })
        });
        Ok(())
    }

    async fn nap(&mut self, app: App, which: usize) -> anyhow::Result<()> {
        let worker = self.worker(app, which).await?;
        if process::signal(worker.pid, Signal::STOP).is_ok() {
            sleep(NAP).await;
            let _it_may_have_been_killed = process::signal(worker.pid, Signal::CONT);
        }
        Ok(())
    }

    async fn scale(&mut self, app: App, workers: u32) -> anyhow::Result<()> {
        self.site.settings(app).workers = workers;
        self.stack.command("scale", &[app.name(), &workers.to_string()]).await?;
        Ok(())
    }

    async fn misspell(&mut self, app: App) -> anyhow::Result<()> {
        self.stack.write(app.name(), NO_TOML)?;
        self.stack.until(app.name(), "the mistake is reported", |app| app.error().contains("wokers")).await?;
        self.put(app)
    }

    fn put(&self, app: App) -> anyhow::Result<()> {
        self.stack.put(&self.site.vassal(&self.stack.place, app))
    }

    async fn end_emperord(&self, signal: Signal) -> anyhow::Result<()> {
        let emperord = self.stack.daemon("emperord").await?;
        process::signal(emperord, signal)?;
        self.next_emperord(emperord).await
    }

    async fn next_emperord(&self, emperord: u32) -> anyhow::Result<()> {
        let next = async || {
            let status = self.stack.status().await;
            Ok(status.is_ok_and(|status| status.emperord.pid != emperord).then_some(()))
        };
        until("the next emperord answers", next).await
    }

    async fn end_frontd(&mut self, signal: Signal) -> anyhow::Result<()> {
        let frontd = self.frontd().await?;
        let begun = self.book.now();
        self.old_frontds.push(frontd);
        process::signal(frontd, signal)?;
        let next = self.frontd().await?;
        // The next one is started when all threads of a killed one have ended, and with the last its connections.
        match signal {
            Signal::KILL => self.past.times.crashes.push((begun, self.book.now())),
            _ => self.past.times.restarts.push(begun),
        }
        until("the next frontd serves", async || {
            let ready = self.stack.probe("/-/ready").await.is_ok_and(|answer| answer.status == 200);
            let is_next = Process::of(next).is_some();
            ensure!(is_next, "the next frontd has ended");
            Ok(ready.then_some(()))
        })
        .await
    }

    /// The frontd that was not told to stop.
    async fn frontd(&self) -> anyhow::Result<u32> {
        until("a frontd runs", async || {
            let all = Process::descendants(self.stack.up());
            let mut current =
                all.iter().filter(|it| it.command == "frontd" && !self.old_frontds.contains(&it.pid));
            Ok(current.next().map(|it| it.pid))
        })
        .await
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        for app in App::ALL {
            let workers = self.site.settings(app).workers as usize;
            let what = format!("{app} has {workers} workers, and others only for open WebSockets");
            let whole = |app: &tests::status::App| {
                let others = app.workers.iter().filter(|it| it.state != "ready");
                app.wanted as usize == workers
                    && app.ready().len() == workers
                    && others.into_iter().all(|it| it.sockets > 0)
            };
            self.stack.until(app.name(), &what, whole).await?;
        }
        ensure!(Process::of(self.stack.up()).is_some(), "`imperium up` has ended");
        Ok(())
    }

    /// Returns one of the serving workers.
    async fn worker(&self, app: App, which: usize) -> anyhow::Result<Process> {
        until(&format!("{app} has a worker"), async || {
            let Ok(status) = self.stack.status().await else { return Ok(None) };
            let ready = status.app(app.name()).map(tests::status::App::ready).unwrap_or_default();
            let chosen = which.checked_rem(ready.len()).map(|which| ready[which]);
            Ok(chosen.and_then(Process::of))
        })
        .await
    }

    async fn ends(&self, worker: &Process) -> anyhow::Result<()> {
        until("a killed worker is dead", async || Ok((!worker.is_running()).then_some(()))).await
    }

    fn harmed(&mut self, app: App, pid: u32, cause: Cause, from: Duration) {
        self.past.harms.push(Harm { app, pid, cause, from, to: self.book.now() });
    }
}
