//! Records why the newest version of an app can't start, for its developer's terminal and browser.

use std::sync::Arc;

use api::VassalName;
use config::emperord::Mode;

use super::Driver;
use super::event::Failure;

/// The largest size of the cause, in bytes.
const CAUSE_LIMIT: usize = 1 << 10;
/// The largest size of the traceback, in bytes.
const TRACEBACK_LIMIT: usize = 63 << 10;

/// A failure of the current generation. Recorded only in development.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    generation: u64,
    /// The cause in one line, followed by the traceback.
    pub(super) text: Arc<str>,
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
    /// Reports a failure of `generation` to the developer: once, however often it is retried.
    pub(super) fn tell_developer(
        &mut self,
        name: &VassalName,
        generation: u64,
        failure: &Failure,
    ) -> Reported {
        let Some(app) = self.apps.get_mut(name) else { return Reported::No };
        if self.config.mode == Mode::Production || generation != app.supervisor.generation() {
            return Reported::No;
        }
        let broken = Broken { generation, text: failure.page().into() };
        if app.broken.as_ref() == Some(&broken) {
            tracing::debug!(app = %name, "the app fails to start as before");
            return Reported::ToDeveloper;
        }
        let Failure { message, traceback, .. } = failure;
        match traceback.trim_end() {
            "" => tracing::error!("the app can't start: {message}"),
            // The cause comes last, next to the prompt.
            traceback => tracing::error!("the app can't start\n{traceback}\n\n{message}"),
        }
        app.broken = Some(broken);
        self.publish(name);
        Reported::ToDeveloper
    }
}

impl Failure {
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
    use super::super::event::Reason;
    use super::*;

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
