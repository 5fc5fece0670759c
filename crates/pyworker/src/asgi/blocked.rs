//! Serves the connections from frontd while the app blocks its event loop, so that no request waits for it that
//! another worker could take, and logs what blocks it.
#![expect(unsafe_code, reason = "tokio trusts that a descriptor stays the same")]

use std::sync::Arc;
use std::time::Duration;

use api::runner::Lag;
use api::runner::serve_response::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};

use super::event_loop::Loop;
use super::turn::Turns;
use crate::executor::load::LoopLoad;
use crate::link::guest::Guest;
use crate::link::requests::Requests;
use crate::python::faulthandler::Dump;
use crate::python::thread::ThreadId;

/// How long a loop may take to react before it counts as blocked.
const TICK: Duration = Duration::from_millis(20);
/// The longest pause between two checks of a loop whose requests only wait for something.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The number of ticks without anything to do after which it sleeps.
const IDLE_TICKS: u32 = 10;
/// How long a loop is blocked before that is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(1);

/// Watches one loop. It runs on the I/O runtime, and never waits for Python.
pub(super) struct Watch {
    pub(super) guest: Arc<Guest>,
    pub(super) event_loop: Arc<Loop>,
    pub(super) turns: Arc<Turns>,
    pub(super) requests: Arc<Requests>,
    pub(super) load: Arc<LoopLoad>,
    pub(super) dump: Arc<Dump>,
    /// The thread of the loop.
    pub(super) thread: ThreadId,
}

/// A loop that doesn't react.
struct Incident {
    since: Instant,
    is_logged: bool,
}

impl Watch {
    /// Watches until the loop ends.
    pub(super) async fn run(self) {
        while !self.turns.is_over() {
            self.activity().await;
            self.follow().await;
        }
    }

    /// Waits until something arrives. Not used while there is something to watch, since it would wake this thread for
    /// each request.
    async fn activity(&self) {
        let Ok(descriptor) = self.guest.descriptor().try_clone_to_owned() else { return sleep(TICK).await };
        // SAFETY: `OwnedFd` always returns the same descriptor, and closes it when it is dropped, after it was removed.
        match unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) } {
            Ok(descriptor) => {
                let _ready = descriptor.readable().await;
            }
            Err(error) => {
                tracing::debug!(%error, "watch the connections from frontd");
                sleep(TICK).await;
            }
        }
    }

    /// Looks regularly until nothing happens any more.
    async fn follow(&self) {
        let (mut idle, mut incident) = (0, None);
        let (mut seen, mut is_probed) = (self.guest.progress(), false);
        let mut pause = TICK;
        while idle < IDLE_TICKS {
            if is_probed || pause == TICK {
                sleep(TICK).await;
            } else {
                rest(pause, self.activity()).await;
            }
            if self.turns.is_over() {
                return;
            }
            let progress = self.guest.progress();
            if progress != seen {
                // A loop that only answers probes is checked less and less often.
                pause = if std::mem::take(&mut is_probed) { (pause * 2).min(LONGEST_PAUSE) } else { TICK };
                (seen, idle) = (progress, 0);
                self.end(incident.take());
            } else if self.guest.is_due() || incident.is_some() {
                idle = 0;
                self.turn_for_loop(incident.get_or_insert_with(|| self.begin())).await;
            } else if self.requests.work().busy > 0 {
                // Nothing arrives, but the app may block the loop.
                self.guest.nudge();
                is_probed = true;
            } else {
                idle += 1;
            }
        }
    }

    fn begin(&self) -> Incident {
        self.requests.announce(&Message::Lag(Lag { blocked: true }));
        Incident { since: Instant::now() - TICK, is_logged: false }
    }

    fn end(&self, incident: Option<Incident>) {
        let Some(incident) = incident else { return };
        self.requests.announce(&Message::Lag(Lag { blocked: false }));
        if incident.is_logged {
            tracing::info!(lag = ?incident.since.elapsed(), "the event loop responds again");
        }
    }

    /// Does the loop's part, as far as that needs no Python.
    async fn turn_for_loop(&self, incident: &mut Incident) {
        self.event_loop.flush();
        self.guest.turn_for();
        self.requests.hand_back_waiting();
        self.guest.turn_for();
        let lag = incident.since.elapsed();
        self.load.note_lag(lag);
        if lag >= LOGGED_AFTER && !std::mem::replace(&mut incident.is_logged, true) {
            let stack = self.dump.of(self.thread).await;
            tracing::warn!("event loop blocked for {:.1} s\n{stack}", lag.as_secs_f64());
        }
    }
}

/// Waits for `pause`, or until something arrives, and the loop has had a tick to react to it.
async fn rest(pause: Duration, activity: impl Future<Output = ()>) {
    if timeout(pause, activity).await.is_ok() {
        sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_just_arrived_does_not_count_as_ignored() {
        let began = Instant::now();
        rest(LONGEST_PAUSE, ready(())).await;
        assert_eq!(began.elapsed(), TICK);
        let began = Instant::now();
        rest(LONGEST_PAUSE, pending()).await;
        assert_eq!(began.elapsed(), LONGEST_PAUSE);
    }
}
