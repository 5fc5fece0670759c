//! The periodic check of all requests for exceeded limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::runner::Done;
use api::runner::serve_response::Message;

use super::{Phase, Requests, State};
use crate::link::active::ActiveRequest;
use crate::link::deadline::{Cause, Found};

/// The number of looks that a request may wait here, since other workers may be free. frontd recalls
/// prefetched requests much earlier. This is for a request that was overtaken by one from another shard.
pub(super) const LOOKS_LIMIT: u8 = 5;

/// The findings of one look.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Requests that exceeded a limit. Each is listed once.
    pub(crate) expired: Vec<(Arc<ActiveRequest>, Cause)>,
    /// Requests that didn't end after their interruption. Each is listed once.
    pub(crate) stuck: Vec<Arc<ActiveRequest>>,
    /// Those of them whose response nobody reads any more. Each is listed once.
    pub(crate) held: Vec<Arc<ActiveRequest>>,
    /// How much of the capacity is lost to stuck or held requests, including earlier ones.
    pub(crate) taken: usize,
    /// Requests whose clients don't read what the app sends.
    pub(crate) unread: Vec<Arc<ActiveRequest>>,
    /// The other requests.
    pub(crate) rest: Rest,
}

/// Requests that were started and haven't ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    #[default]
    Nothing,
    /// Some are being processed.
    Some,
    /// This worker is draining, and only stuck requests are left.
    OnlyStuck,
}

impl Requests {
    /// Checks the limits of all running requests, and hands back requests that have waited too long. `now` is
    /// the watchdog's clock.
    pub(crate) fn look(&self, now: Duration) -> Look {
        let mut state = self.state.lock();
        state.hand_back_late();
        let mut look = Look { rest: state.rest(), ..Look::default() };
        for active in &state.active {
            match active.deadline.look(now, active.client()) {
                Found::Nothing => {}
                Found::Expired(cause) => look.expired.push((Arc::clone(active), cause)),
                Found::Stuck => look.stuck.push(Arc::clone(active)),
                Found::Held => look.held.push(Arc::clone(active)),
                Found::Unread => look.unread.push(Arc::clone(active)),
            }
            look.taken += usize::from(active.deadline.is_stuck());
        }
        look
    }

    /// Abandons all running requests: frontd considers them done.
    pub(crate) fn abandon(&self) {
        for active in std::mem::take(&mut self.state.lock().active) {
            active.session.send(Message::Done(Done { id: active.id }));
        }
    }

    /// Waits until a request is running.
    pub(crate) async fn occupied(&self) {
        let mut occupied = pin!(self.occupied.notified());
        occupied.as_mut().enable();
        let is_empty = {
            let mut state = self.state.lock();
            state.watchdog_sleeps = state.active.is_empty();
            state.watchdog_sleeps
        };
        if is_empty {
            occupied.await;
        }
    }
}

impl State {
    fn rest(&self) -> Rest {
        match (self.phase, &*self.active) {
            (_, []) => Rest::Nothing,
            (Phase::Draining, active)
                if self.sockets.is_empty() && active.iter().all(|it| it.deadline.is_stuck()) =>
            {
                Rest::OnlyStuck
            }
            _ => Rest::Some,
        }
    }

    fn hand_back_late(&mut self) {
        self.waiting.retain_mut(|it| {
            it.looks += 1;
            if it.looks > LOOKS_LIMIT {
                it.session.hand_back(vec![it.request.id]);
            }
            it.looks <= LOOKS_LIMIT
        });
    }
}
