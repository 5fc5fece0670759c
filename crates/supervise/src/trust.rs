//! What is known of a generation's ability to start, and what a start that failed means for it.

use std::time::Instant;

use crate::backoff::Backoff;
use crate::event::{Action, StartFailure, TerminateCause};
use crate::plan;
use crate::supervisor::Supervisor;
use crate::worker::Worker;

/// What is known of the current generation's ability to start.
///
/// ```text
///  from                            cause                                          to
///  any                             a new generation is wanted                     Untried
///  any                             one of its workers is ready                    Proven
///  Untried                         a start fails, an older generation worked      Abandoned
///  Untried, Proven, Shaken         a start fails, others serve                    Shaken
///  Untried, Proven, Shaken         a start fails for what may pass, none serves   Shaken
///  Untried, Proven, Shaken         a start fails for what only an edit mends,     Doubted
///                                  none serves
///  Doubted                         no other start is under way any more           GivenUp
///  Doubted, GivenUp                the app's files have changed                   Shaken
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// None of its workers has become ready or failed.
    Untried,
    /// One of its workers became ready.
    Proven,
    /// The last start failed: they go one at a time, with a backoff.
    Shaken,
    /// Its first worker failed, and an older generation worked: that one fills the places, and this one is tried
    /// beside it, with a backoff of its own.
    Abandoned,
    /// Only an edit helps and none serves: only starts that are under way may still prove otherwise.
    Doubted(StartFailure),
    /// They did not. Nothing is tried.
    GivenUp,
}

impl Supervisor {
    /// The generation that worked last, where the current one has not yet. Nobody knows what generation 0 runs.
    #[must_use]
    pub fn fallback(&self) -> Option<u64> {
        self.proven.filter(|it| (1..self.generation).contains(it))
    }

    /// Whether only a change of the app's own files, its interpreter or its vassal file helps the current generation.
    #[must_use]
    pub fn awaits_edit(&self) -> bool {
        self.needs_edit
    }

    pub(crate) fn new_generation(&mut self, generation: u64) {
        self.generation = generation;
        self.backoff = Backoff::default();
        self.trial = Backoff::default();
        self.needs_edit = false;
        self.refusing = false;
        let works = self.workers.values().any(|it| it.generation == generation && it.is_ready());
        self.trust = if works { Trust::Proven } else { Trust::Untried };
    }

    pub(crate) fn proved(&mut self, generation: u64, now: Instant) {
        self.refusing = false;
        self.proven = self.proven.max(Some(generation));
        if generation == self.generation {
            self.trust = Trust::Proven;
            self.needs_edit = false;
        }
        if generation == plan::filling(self) {
            self.backoff.succeeded(now);
        }
    }

    /// The app's files are others: what has failed is tried at once, one process at first.
    pub(crate) fn sources_changed(&mut self) {
        self.needs_edit = false;
        self.backoff = Backoff::default();
        self.trial = Backoff::default();
        if let Trust::Doubted(_) | Trust::GivenUp = self.trust {
            self.trust = Trust::Shaken;
        }
    }

    /// A worker did not become ready. What that means depends on who serves meanwhile.
    pub(crate) fn start_failed(
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
        let is_expected_soon = failure.may_pass_soon() || plan::filling(self) != generation;
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
            // Beside those that serve it costs memory and time: never in quick succession.
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
