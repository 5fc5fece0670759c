//! Why the newest version of an app cannot start, as its developer is told in the terminal and in the browser.

use std::sync::Arc;

use api::VassalName;
use config::emperord::Mode;

use super::Driver;
use super::event::Failure;

/// Bytes that are kept of what failed, in one line.
const CAUSE_LIMIT: usize = 1 << 10;
/// Bytes that are kept of the traceback.
const TRACEBACK_LIMIT: usize = 63 << 10;

/// A failure of the generation that is current. Kept in development alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    generation: u64,
    /// The cause in one line, then the traceback.
    pub(super) text: Arc<str>,
}

/// Whether a failure is told already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Told {
    /// To the developer, now or at an earlier try.
    ToDeveloper,
    /// To nobody: there is no developer.
    No,
}

impl Driver {
    /// Tells the developer of a failure of `generation`: once, however often it is tried again.
    pub(super) fn tell_developer(&mut self, name: &VassalName, generation: u64, failure: &Failure) -> Told {
        let Some(app) = self.apps.get_mut(name) else { return Told::No };
        if self.config.mode == Mode::Production || generation != app.supervisor.generation() {
            return Told::No;
        }
        let broken = Broken { generation, text: failure.page().into() };
        if app.broken.as_ref() == Some(&broken) {
            tracing::debug!(app = %name, "the app fails to start as before");
            return Told::ToDeveloper;
        }
        let Failure { message, traceback, .. } = failure;
        match traceback.trim_end() {
            "" => tracing::error!("the app can't start: {message}"),
            // The cause last, where the eye is.
            traceback => tracing::error!("the app can't start\n{traceback}\n\n{message}"),
        }
        app.broken = Some(broken);
        self.publish(name);
        Told::ToDeveloper
    }
}

impl Failure {
    fn page(&self) -> String {
        let cause = &self.message[..self.message.floor_char_boundary(CAUSE_LIMIT)];
        // The end says most: it is where Python names the error.
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
    fn a_page_is_bounded_and_keeps_the_cause_and_the_end() {
        let failure = Failure {
            reason: Reason::Import,
            message: "é".repeat(1 << 10),
            traceback: format!("{}the end\n", "é\n".repeat(64 << 10)),
        };
        let page = failure.page();
        assert!(page.len() <= 64 << 10 && page.starts_with('é') && page.ends_with("the end"));
    }
}
