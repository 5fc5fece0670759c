//! Records why the newest version of an app can't start, for its developer's terminal and browser.

use api::{VassalName, WorkerName};
use config::emperord::Mode;
use daemon::logging::NOTICE;
use supervise::Stage;

use super::Driver;
use super::app::App;
use super::edits::News;
use super::event::{Failure, Reason};
use crate::routes::StartFailure;

/// The largest size of the cause, in bytes.
const CAUSE_LIMIT: usize = 1 << 10;
/// The largest size of the traceback, in bytes.
const TRACEBACK_LIMIT: usize = 63 << 10;

/// A failure of the current generation. Recorded only in development.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    generation: u64,
    scope: Scope,
    /// The text without what may differ if it fails again for the same reason.
    essence: String,
    /// What clients are shown.
    pub(super) failure: StartFailure,
}

/// What a failure affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// No worker of the generation serves.
    App,
    /// Others serve.
    Worker,
}

/// Whether a failure was reported to the developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Reported {
    /// Now or after an earlier attempt.
    ToDeveloper,
    /// This isn't a development server, or the failure is outdated.
    No,
}

impl Driver {
    /// Reports a failure of `generation` to the developer: once, however often it is retried. If a later start succeeds
    /// without a change of its files, the app has recovered.
    pub(super) fn tell_developer(
        &mut self,
        name: &VassalName,
        generation: u64,
        failure: &Failure,
    ) -> Reported {
        let shown = (!self.is_only_app()).then(|| name.to_string());
        let Some(app) = self.apps.get_mut(name) else { return Reported::No };
        if generation != app.supervisor.generation() {
            return Reported::No;
        }
        let scope = if app.serves(generation) { Scope::Worker } else { Scope::App };
        let is_production = self.config.mode == Mode::Production;
        match (scope, app.awaited_news) {
            (Scope::App, _) => app.awaited_news = (!is_production).then_some(News::Recovered),
            (Scope::Worker, None) if !is_production => app.awaited_news = Some(News::Recovered),
            (Scope::Worker, _) => {}
        }
        if is_production {
            return Reported::No;
        }
        let is_watched = app.vassal.as_ref().is_some_and(|it| it.reload.watch);
        let shown_failure = StartFailure { text: failure.page().into(), next: failure.next(is_watched) };
        let broken =
            Broken { generation, scope, essence: essence(&shown_failure.text), failure: shown_failure };
        if app.broken.as_ref().is_some_and(|it| it.is_same(&broken)) {
            tracing::debug!(app = %name, "the app fails to start as before");
            return Reported::ToDeveloper;
        }
        let text = failure.for_terminal();
        match scope {
            Scope::App => tracing::error!(target: NOTICE, app = shown, "The app can't start{text}"),
            Scope::Worker => tracing::warn!(target: NOTICE, app = shown, "A worker can't start{text}"),
        }
        app.broken = Some(broken);
        self.publish(name);
        Reported::ToDeveloper
    }

    /// Notes why no worker of `generation` started, where none could tell it by itself: `error` for the operator, and
    /// `cause` for the developer. It names no worker, since each of them usually fails for the same reason.
    pub(super) fn note_failed_start(
        &mut self,
        name: &VassalName,
        generation: u64,
        error: String,
        cause: String,
    ) -> Reported {
        self.note_crashed_start(name, generation, error, cause, String::new())
    }

    /// As `note_failed_start`, with the Python stack of the process.
    pub(super) fn note_crashed_start(
        &mut self,
        name: &VassalName,
        generation: u64,
        error: String,
        cause: String,
        stack: String,
    ) -> Reported {
        if let Some(app) = self.apps.get_mut(name) {
            app.worker_error = Some(error);
        }
        let failure = Failure { reason: Reason::System, message: cause, traceback: stack };
        self.tell_developer(name, generation, &failure)
    }

    /// As `note_failed_start`, of a worker that has no process, for the reason that `error` gives.
    pub(super) fn note_not_started(&mut self, worker: &WorkerName, error: &str) {
        let generation = self.generation_of(worker).unwrap_or_default();
        let told = format!("worker {worker} was not started: {error}");
        let cause = format!("no worker can be started: {error}");
        if self.note_failed_start(&worker.vassal, generation, told, cause) == Reported::No {
            tracing::error!(%worker, error, "cannot start worker");
        }
    }
}

impl Broken {
    fn is_same(&self, other: &Self) -> bool {
        (self.generation, self.scope, &self.essence) == (other.generation, other.scope, &other.essence)
    }
}

/// Removes the source lines from a failure's text, and addresses. Python reads these lines when it formats a traceback:
/// if the file was saved meanwhile, they aren't those that have failed.
fn essence(text: &str) -> String {
    let mut essence = String::new();
    for line in text.lines().filter(|it| !it.starts_with("    ")) {
        let mut rest = line;
        while let Some((before, address)) = rest.split_once("0x") {
            essence += before;
            rest = address.trim_start_matches(|it: char| it.is_ascii_hexdigit());
        }
        essence += rest;
        essence.push('\n');
    }
    essence
}

impl App {
    /// What clients are shown in place of the app: why its newest version cannot start, while no worker of it serves.
    pub(super) fn shown_failure(&self) -> Option<&StartFailure> {
        self.broken.as_ref().filter(|it| !self.serves(it.generation)).map(|it| &it.failure)
    }

    fn serves(&self, generation: u64) -> bool {
        let mut workers = self.supervisor.workers().map(|(_, it)| it);
        workers.any(|it| it.generation == generation && matches!(it.stage, Stage::Ready { .. }))
    }
}

impl Failure {
    /// What follows "The app can't start". The cause comes last, where people look first, unless the traceback ends with
    /// it.
    fn for_terminal(&self) -> String {
        let Self { message, traceback, .. } = self;
        let traceback = traceback.trim_end();
        let last = traceback.lines().rev().find(|it| !it.starts_with(' ') && !it.is_empty());
        match last {
            None => format!(": {message}"),
            Some(last) if message.starts_with(last) => format!("\n{traceback}"),
            Some(_) => format!("\n{traceback}\n\n{message}"),
        }
    }

    /// What happens next, as a sentence without a full stop.
    fn next(&self, is_watched: bool) -> &'static str {
        match self.reason {
            Reason::Source | Reason::Interpreter => "Imperium starts the app again when its files change",
            Reason::Import | Reason::System if is_watched => {
                "Imperium tries again by itself, and at once when the app's files change"
            }
            Reason::Import | Reason::System => "Imperium tries again by itself",
        }
    }

    fn page(&self) -> String {
        let cause = &self.message[..self.message.floor_char_boundary(CAUSE_LIMIT)];
        // The end is most useful: that's where Python names the error.
        let from = self.traceback.len().saturating_sub(TRACEBACK_LIMIT);
        let traceback = self.traceback[self.traceback.ceil_char_boundary(from)..].trim_end();
        format!("{cause}\n{traceback}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_shows_the_cause_once() {
        let shown = |message: &str, traceback: &str| {
            let (message, traceback) = (message.to_owned(), traceback.to_owned());
            Failure { reason: Reason::Source, message, traceback }.for_terminal()
        };
        let syntax =
            "  File \"app.py\", line 1\n    app = (\n          ^\nSyntaxError: '(' was never closed\n";
        let expected = format!("\n{}", syntax.trim_end());
        assert_eq!(shown("SyntaxError: '(' was never closed (app.py, line 1)", syntax), expected);
        assert_eq!(shown("it hung", ""), ": it hung");
        let missing =
            shown("No module named 'x' in /v", "Traceback\nModuleNotFoundError: No module named 'x'");
        assert!(missing.ends_with("named 'x'\n\nNo module named 'x' in /v"), "{missing}");
    }

    #[test]
    fn a_page_is_bounded_and_keeps_cause_and_end() {
        let failure = Failure {
            reason: Reason::Import,
            message: "é".repeat(1 << 10),
            traceback: format!("{}the end\n", "é\n".repeat(64 << 10)),
        };
        let page = failure.page();
        assert!(page.len() <= 64 << 10 && page.starts_with('é') && page.ends_with("the end"));
    }
}
