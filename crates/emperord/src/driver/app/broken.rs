//! Why the newest version of an app can't start.

use supervise::Stage;

use super::App;
use crate::routes::ShownFailure;
use crate::spec::{Failure, Reason};

/// The largest size of the cause, in bytes.
const CAUSE_LIMIT: usize = 1 << 10;
/// The largest size of the traceback, in bytes.
const TRACEBACK_LIMIT: usize = 63 << 10;

/// A failure of the current generation. Recorded only in development.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    generation: u64,
    scope: Scope,
    /// The text without what may differ if it fails again for the same reason.
    essence: String,
    /// What clients are shown.
    failure: ShownFailure,
}

/// What a failure affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// No worker of the generation serves.
    App,
    /// Others serve.
    Worker,
}

impl Broken {
    /// With `is_watched`, each change of the app's files leads to another try.
    pub(crate) fn new(generation: u64, scope: Scope, failure: &Failure, is_watched: bool) -> Self {
        let shown = ShownFailure { text: page(failure).into(), next: next(failure, is_watched) };
        Self { generation, scope, essence: essence(&shown.text), failure: shown }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
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
    pub(crate) fn shown_failure(&self) -> Option<&ShownFailure> {
        self.broken.as_ref().filter(|it| !self.serves(it.generation)).map(|it| &it.failure)
    }

    pub(crate) fn serves(&self, generation: u64) -> bool {
        let mut workers = self.supervisor.workers().map(|(_, it)| it);
        workers.any(|it| it.generation == generation && matches!(it.stage, Stage::Ready { .. }))
    }
}

/// What happens next, as a sentence without a full stop.
fn next(failure: &Failure, is_watched: bool) -> &'static str {
    match failure.reason {
        Reason::Source | Reason::Interpreter => "Imperium starts the app again when its files change",
        Reason::Import | Reason::System if is_watched => {
            "Imperium tries again by itself, and at once when the app's files change"
        }
        Reason::Import | Reason::System => "Imperium tries again by itself",
    }
}

fn page(failure: &Failure) -> String {
    let cause = &failure.message[..failure.message.floor_char_boundary(CAUSE_LIMIT)];
    // The end is most useful: that's where Python names the error.
    let from = failure.traceback.len().saturating_sub(TRACEBACK_LIMIT);
    let traceback = failure.traceback[failure.traceback.ceil_char_boundary(from)..].trim_end();
    format!("{cause}\n{traceback}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_keeps_cause_and_end() {
        let failure = Failure {
            reason: Reason::Import,
            message: "é".repeat(1 << 10),
            traceback: format!("{}the end\n", "é\n".repeat(64 << 10)),
        };
        let page = page(&failure);
        assert!(page.len() <= 64 << 10 && page.starts_with('é') && page.ends_with("the end"));
    }
}
