//! Tracks whether a generation is able to start, and what a failed start implies.

use std::time::Instant;

use super::Supervisor;
use crate::backoff::Backoff;
use crate::event::{Action, StartFailure, TerminateCause};
use crate::worker::Worker;

/// Whether the current generation is able to start.
///
/// ```text
///  from                            cause                                          to
///  any                             a new generation is wanted                     Untried
///  any                             one of its workers is ready                    Proven
///  Untried                         a start fails, an older generation worked      Abandoned
///  Untried, Proven, Shaken         a start fails, others serve                    Shaken
///  Untried, Proven, Shaken         a start fails temporarily, none serves         Shaken
///  Untried, Proven, Shaken         a start fails and needs an edit, none serves   Doubted
///  Doubted                         no other start is running any more             GivenUp
///  Doubted, GivenUp                the app's files have changed                   Shaken
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// None of its workers has become ready or failed.
    Untried,
    /// One of its workers became ready.
    Proven,
    /// The last start failed: starts are retried one at a time, with a backoff.
    Shaken,
    /// Its first worker failed, but an older generation worked: that one serves, and this one is retried next
    /// to it, with its own backoff.
    Abandoned,
    /// Only an edit can help and no worker serves: only starts that are already running may still succeed.
    Doubted(StartFailure),
    /// They failed too. Nothing is tried.
    GivenUp,
}

impl Supervisor {
    /// The last generation that worked, if the current one hasn't yet. Generation 0 doesn't count, since its
    /// configuration is unknown.
    #[must_use]
    pub fn fallback(&self) -> Option<u64> {
        self.proven.filter(|it| (1..self.generation).contains(it))
    }

    /// Whether only a change of the app's source files, its interpreter or its vassal file can help the
    /// current generation.
    #[must_use]
    pub fn awaits_edit(&self) -> bool {
        self.needs_edit
    }

    pub(super) fn new_generation(&mut self, generation: u64) {
        self.generation = generation;
        self.backoff = Backoff::default();
        self.trial = Backoff::default();
        self.needs_edit = false;
        self.refusing = false;
        let works = self.workers.values().any(|it| it.generation == generation && it.is_ready());
        self.trust = if works { Trust::Proven } else { Trust::Untried };
    }

    pub(super) fn proved(&mut self, generation: u64, now: Instant) {
        self.refusing = false;
        self.proven = self.proven.max(Some(generation));
        if generation == self.generation {
            self.trust = Trust::Proven;
            self.needs_edit = false;
        }
        if generation == self.filling() {
            self.backoff.succeeded(now);
        }
    }

    /// The app's files have changed: retries at once, with one process at first.
    pub(super) fn sources_changed(&mut self) {
        self.needs_edit = false;
        self.backoff = Backoff::default();
        self.trial = Backoff::default();
        if let Trust::Doubted(_) | Trust::GivenUp = self.trust {
            self.trust = Trust::Shaken;
        }
    }

    /// A worker didn't become ready. The consequences depend on whether others serve.
    pub(super) fn start_failed(
        &mut self,
        generation: u64,
        failure: StartFailure,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if generation == self.generation {
            self.current_failed(failure, now, actions);
        } else if self.trust == Trust::Abandoned && Some(generation) == self.fallback() {
            wait(&mut self.backoff, failure, now);
        }
        let none_is_left = !self.workers.values().any(|it| it.is_ready() || it.is_starting());
        let is_expected_soon = failure.may_pass_soon() || self.filling() != generation;
        self.refusing |= none_is_left && !is_expected_soon;
    }

    fn current_failed(&mut self, failure: StartFailure, now: Instant, actions: &mut Vec<Action>) {
        self.start_failures += 1;
        self.needs_edit = failure == StartFailure::NeedsEdit;
        let serving = self.workers.values().any(Worker::is_ready);
        self.trust = match self.trust {
            Trust::Untried if self.fallback().is_some() => {
                actions.push(Action::AbandonReload { failure });
                self.stop_starts(now, actions);
                Trust::Abandoned
            }
            Trust::Abandoned => Trust::Abandoned,
            _ if serving => Trust::Shaken,
            Trust::Doubted(first) => Trust::Doubted(first),
            Trust::GivenUp => Trust::GivenUp,
            _ if failure == StartFailure::NeedsEdit => Trust::Doubted(failure),
            _ => Trust::Shaken,
        };
        match self.trust {
            // Next to serving workers, an attempt costs memory and CPU time, so there is always a delay.
            Trust::Abandoned => self.trial.failed_slowly(now),
            _ => wait(&mut self.backoff, failure, now),
        }
    }

    fn stop_starts(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (number, worker) in self.workers.iter_mut().filter(|(_, it)| it.is_starting()) {
            actions.push(worker.terminate(*number, now, TerminateCause::Superfluous));
        }
    }
}

fn wait(backoff: &mut Backoff, failure: StartFailure, now: Instant) {
    match failure.may_pass_soon() {
        true => backoff.failed_to_start(now),
        false => backoff.failed_slowly(now),
    }
}
