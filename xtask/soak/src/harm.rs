//! What was done to workers, and which of their requests may have been lost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ledger::Entry;
use super::site::App;

/// A worker that exited unexpectedly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Harm {
    pub(crate) app: App,
    pub(crate) pid: u32,
    pub(crate) cause: Cause,
    /// Since the start of the soak.
    pub(crate) from: Duration,
    /// It was dead at that time.
    pub(crate) to: Duration,
}

/// Why it exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// SIGKILL.
    Killed,
    /// It was stopped by SIGSTOP, and finally killed by the supervisor.
    Frozen,
    /// A request.
    Exited,
}

/// All harmed workers.
#[derive(Debug, Default)]
pub(crate) struct Harms(Vec<Harm>);

impl Harms {
    pub(crate) fn new(harms: Vec<Harm>) -> Self {
        Self(harms)
    }

    /// The workers of a request's app that were harmed while it was running.
    pub(crate) fn during(&self, entry: &Entry) -> BTreeSet<u32> {
        self.of(entry.app, entry.sent, entry.done)
    }

    /// Whether one of them was frozen.
    pub(crate) fn froze_during(&self, entry: &Entry) -> bool {
        self.froze(entry.app, entry.sent, entry.done)
    }

    /// The workers of an app that were harmed during that time.
    pub(crate) fn of(&self, app: App, from: Duration, to: Duration) -> BTreeSet<u32> {
        self.meeting(app, from, to).map(|harm| harm.pid).collect()
    }

    /// Whether one of them was frozen.
    pub(crate) fn froze(&self, app: App, from: Duration, to: Duration) -> bool {
        self.meeting(app, from, to).any(|harm| harm.cause == Cause::Frozen)
    }

    fn meeting(&self, app: App, from: Duration, to: Duration) -> impl Iterator<Item = &Harm> {
        self.0.iter().filter(move |harm| harm.app == app && harm.from <= to && harm.to >= from)
    }
}
