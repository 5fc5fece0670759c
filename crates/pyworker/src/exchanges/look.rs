//! What the watch over limits sees of all requests, and does about them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::runner::Done;
use api::runner::serve_response::Message;

use super::{Exchanges, Phase, State};
use crate::deadline::{Cause, Found};
use crate::exchange::Exchange;

/// Looks that a request may wait here for, while others wait elsewhere for less. frontd recalls what it has given
/// ahead long before; this is for what came behind another that overtook it on its way from another shard.
pub(super) const LOOKS_LIMIT: u8 = 5;

/// What a look at all that has begun finds.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Those that are over a limit, each once.
    pub(crate) expired: Vec<(Arc<Exchange>, Cause)>,
    /// Those that go on all the same, each once.
    pub(crate) stuck: Vec<Arc<Exchange>>,
    /// Those of them that nobody reads any more, each once.
    pub(crate) held: Vec<Arc<Exchange>>,
    /// How many threads are in what is stuck or held, those found earlier included.
    pub(crate) taken: usize,
    /// Those whose clients make no room for what the app gives.
    pub(crate) unread: Vec<Arc<Exchange>>,
    /// What there is besides.
    pub(crate) rest: Rest,
}

/// What has begun and not ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that is worked on.
    Some,
    /// This worker drains, and has nothing but what is stuck.
    OnlyStuck,
}

impl Exchanges {
    /// Looks after the limits of all that has begun, and gives back what waits for too long; `now` is the watch's
    /// clock.
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

    /// Gives up what has begun: for frontd it is over.
    pub(crate) fn abandon(&self) {
        for exchange in std::mem::take(&mut self.state.lock().begun) {
            exchange.session.send(Message::Done(Done { id: exchange.id }));
        }
    }

    /// Waits until something has begun, if nothing has.
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
