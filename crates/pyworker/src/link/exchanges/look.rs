//! The periodic check of all requests for exceeded limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::runner::Done;
use api::runner::serve_response::Message;

use super::{Exchanges, Phase, State};
use crate::link::deadline::{Cause, Found};
use crate::link::exchange::Exchange;

/// The number of looks that a request may wait here, since other workers may be free. frontd recalls
/// prefetched requests much earlier. This is for a request that was overtaken by one from another shard.
pub(super) const LOOKS_LIMIT: u8 = 5;

/// The findings of one look.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Requests that exceeded a limit. Each is listed once.
    pub(crate) expired: Vec<(Arc<Exchange>, Cause)>,
    /// Requests that didn't end after their interruption. Each is listed once.
    pub(crate) stuck: Vec<Arc<Exchange>>,
    /// Those of them whose response nobody reads any more. Each is listed once.
    pub(crate) held: Vec<Arc<Exchange>>,
    /// The number of threads that are lost to stuck or held requests, including earlier ones.
    pub(crate) taken: usize,
    /// Requests whose clients don't read what the app sends.
    pub(crate) unread: Vec<Arc<Exchange>>,
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

impl Exchanges {
    /// Checks the limits of all running requests, and hands back requests that have waited too long. `now` is
    /// the watcher's clock.
    pub(crate) fn look(&self, now: Duration) -> Look {
        let mut state = self.state.lock();
        state.hand_back_late();
        let mut look = Look { rest: state.rest(), ..Look::default() };
        for exchange in &state.begun {
            match exchange.deadline.look(now, exchange.client()) {
                Found::Nothing => {}
                Found::Expired(cause) => look.expired.push((Arc::clone(exchange), cause)),
                Found::Stuck => look.stuck.push(Arc::clone(exchange)),
                Found::Held => look.held.push(Arc::clone(exchange)),
                Found::Unread => look.unread.push(Arc::clone(exchange)),
            }
            look.taken += usize::from(exchange.deadline.is_stuck());
        }
        look
    }

    /// Abandons all running requests: frontd considers them done.
    pub(crate) fn abandon(&self) {
        for exchange in std::mem::take(&mut self.state.lock().begun) {
            exchange.session.send(Message::Done(Done { id: exchange.id }));
        }
    }

    /// Waits until a request is running.
    pub(crate) async fn occupied(&self) {
        let mut occupied = pin!(self.occupied.notified());
        occupied.as_mut().enable();
        let is_empty = {
            let mut state = self.state.lock();
            state.watch_sleeps = state.begun.is_empty();
            state.watch_sleeps
        };
        if is_empty {
            occupied.await;
        }
    }
}

impl State {
    fn rest(&self) -> Rest {
        match (self.phase, &*self.begun) {
            (_, []) => Rest::Nothing,
            (Phase::Draining, begun) if begun.iter().all(|it| it.deadline.is_stuck()) => Rest::OnlyStuck,
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
