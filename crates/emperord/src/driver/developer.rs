//! Tells why the newest version of an app can't start, in its developer's terminal and browser.

use api::{VassalName, WorkerName};
use config::emperord::Mode;
use daemon::logging::NOTICE;

use super::Driver;
use super::app::{Broken, News, Scope};
use crate::spec::{Failure, Reason};

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
        let broken = Broken::new(generation, scope, failure, is_watched);
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
}
