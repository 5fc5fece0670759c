//! Every request of this worker, from its arrival to its end.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::runner::serve_response::Message;
use api::runner::{Done, Draining, Request};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::deadline::{Cause, Found, ThreadId};
use crate::exchange::Exchange;
use crate::session::Session;

/// What waits at most. frontd sends a few more than there is room for; this bounds one that does not.
const WAITING_LIMIT: usize = 1024;

/// Looks that a request may wait here for, while others wait elsewhere for less. frontd recalls what it has given
/// ahead long before; this is for what came behind another that overtook it on its way from another shard.
const PATIENCE: u8 = 5;

/// The requests of all sessions, in the order of their arrival.
///
/// ```text
///   submit ──▶ waiting ──next──▶ begun ──end──▶ over
///     │           │                │
///     │           │                └─ cancel, session lost: told that the client has gone
///     │           └─ recall, cancel, drain, too long a wait: handed back; session lost: forgotten
///     └─ draining or full: handed back
/// ```
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    state: Mutex<State>,
    /// Something waits, or nothing will any more.
    ready: Notify,
    /// A session has gone.
    left: Notify,
    /// Something has begun, while the watch slept.
    occupied: Notify,
}

#[derive(Debug, Default)]
struct State {
    sessions: Vec<Arc<Session>>,
    waiting: VecDeque<Waiting>,
    begun: Vec<Arc<Exchange>>,
    phase: Phase,
    ended: u64,
    /// Whoever watches over limits is to be woken by what begins next.
    watch_sleeps: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Serving,
    Draining,
}

#[derive(Debug)]
struct Waiting {
    session: Arc<Session>,
    request: Request,
    /// How often it was seen to wait.
    looks: u8,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Exchanges that have begun.
    pub(crate) busy: usize,
    /// Exchanges that have ended.
    pub(crate) ended: u64,
}

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

/// Whether requests wait to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    None,
    Wait,
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

/// A request that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Its state.
    pub(crate) exchange: Arc<Exchange>,
}

impl Begun {
    /// What was asked.
    pub(crate) fn request(&self) -> &Request {
        &self.exchange.request
    }
}

impl Exchanges {
    /// A session was opened.
    pub(crate) fn open(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        state.sessions.push(Arc::clone(session));
        if state.phase == Phase::Draining {
            session.send(Message::Draining(Draining {}));
        }
    }

    /// A request arrived.
    pub(crate) fn submit(&self, session: &Arc<Session>, request: Request) {
        let mut state = self.state.lock();
        if state.phase == Phase::Draining || state.waiting.len() >= WAITING_LIMIT {
            return session.hand_back(vec![request.id]);
        }
        state.waiting.push_back(Waiting { session: Arc::clone(session), request, looks: 0 });
        drop(state);
        self.ready.notify_one();
    }

    /// frontd wants a request back, if it has not begun.
    pub(crate) fn recall(&self, session: &Session, id: u64) {
        if self.state.lock().forget(session.stream, id) {
            session.hand_back(vec![id]);
        }
    }

    /// The client of a request has left.
    pub(crate) fn cancel(&self, session: &Session, id: u64) {
        self.recall(session, id);
        if let Some(exchange) = self.find(session.stream, id) {
            exchange.cancel();
        }
    }

    /// frontd sends nothing more on a session.
    pub(crate) fn half_close(&self, stream: u64) {
        self.state.lock().sessions.retain(|it| it.stream != stream);
        self.left.notify_waiters();
    }

    /// A session broke, or has ended in good order: then there is nothing left to lose.
    pub(crate) fn lose(&self, stream: u64) {
        self.half_close(stream);
        let mut state = self.state.lock();
        state.waiting.retain(|it| it.session.stream != stream);
        for lost in state.begun.iter().filter(|it| it.session.stream == stream) {
            lost.cancel();
        }
    }

    /// A request that has begun and not ended.
    pub(crate) fn find(&self, stream: u64, id: u64) -> Option<Arc<Exchange>> {
        let state = self.state.lock();
        state.begun.iter().find(|it| it.id == id && it.session.stream == stream).cloned()
    }

    /// What a thread is calling the app for.
    pub(crate) fn run_by(&self, thread: ThreadId) -> Option<Arc<Exchange>> {
        let state = self.state.lock();
        state.begun.iter().find(|it| it.deadline.runner() == Some(thread)).cloned()
    }

    /// Begins the next request; waits for one. `None` once this worker drains.
    pub(crate) async fn next(&self) -> Option<Begun> {
        loop {
            if let Some(begun) = self.begin() {
                return Some(begun);
            }
            let mut ready = pin!(self.ready.notified());
            ready.as_mut().enable();
            if let Some(begun) = self.begin() {
                return Some(begun);
            }
            if self.state.lock().phase == Phase::Draining {
                return None;
            }
            ready.await;
        }
    }

    fn begin(&self) -> Option<Begun> {
        let mut state = self.state.lock();
        let Waiting { session, request, .. } = state.waiting.pop_front()?;
        if std::mem::take(&mut state.watch_sleeps) {
            self.occupied.notify_one();
        }
        let exchange = Arc::new(Exchange::new(request, session));
        state.begun.push(Arc::clone(&exchange));
        Some(Begun { exchange })
    }

    /// An exchange is over: its room is free. Tells whether others wait for it.
    pub(crate) fn end(&self, exchange: &Arc<Exchange>) -> Others {
        exchange.end();
        let mut state = self.state.lock();
        state.begun.retain(|it| !Arc::ptr_eq(it, exchange));
        state.ended += 1;
        if state.waiting.is_empty() { Others::None } else { Others::Wait }
    }

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

    /// Takes nothing more, and gives back all that has not begun.
    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Draining;
        let waiting = std::mem::take(&mut state.waiting);
        for session in &state.sessions {
            session.send(Message::Draining(Draining {}));
        }
        for Waiting { session, request, .. } in waiting {
            session.hand_back(vec![request.id]);
        }
        drop(state);
        self.ready.notify_waiters();
    }

    /// Waits until every frontd has half-closed its sessions.
    pub(crate) async fn deserted(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.state.lock().sessions.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// How much there is to do.
    pub(crate) fn work(&self) -> Work {
        let state = self.state.lock();
        Work { busy: state.begun.len(), ended: state.ended }
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
            if it.looks > PATIENCE {
                it.session.hand_back(vec![it.request.id]);
            }
            it.looks <= PATIENCE
        });
    }

    fn forget(&mut self, stream: u64, id: u64) -> bool {
        let at = self.waiting.iter().position(|it| it.request.id == id && it.session.stream == stream);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use api::runner::{HandedBack, ServeResponse};
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    type Outgoing = UnboundedReceiver<ServeResponse>;

    fn session(exchanges: &Exchanges, stream: u64) -> (Arc<Session>, Outgoing) {
        let (session, outgoing) = Session::new(stream, 0);
        let session = Arc::new(session);
        exchanges.open(&session);
        (session, outgoing)
    }

    fn submit(exchanges: &Exchanges, session: &Arc<Session>, ids: &[u64]) {
        for id in ids {
            exchanges.submit(session, Request { id: *id, ..Request::default() });
        }
    }

    fn sent(outgoing: &mut Outgoing) -> Vec<Message> {
        std::iter::from_fn(|| outgoing.try_recv().ok()).filter_map(|it| it.message).collect()
    }

    fn handed_back(id: u64) -> Message {
        Message::HandedBack(HandedBack { ids: vec![id] })
    }

    #[tokio::test]
    async fn first_come_first_served_and_recalled_only_before_it_began() {
        let exchanges = Exchanges::default();
        let (session, mut outgoing) = session(&exchanges, 1);
        submit(&exchanges, &session, &[1, 2, 3]);
        let first = exchanges.next().await.unwrap();
        for id in [1, 2, 9] {
            exchanges.recall(&session, id);
        }
        assert_eq!(sent(&mut outgoing), [handed_back(2)]);
        assert_eq!((first.exchange.id, exchanges.next().await.unwrap().exchange.id), (1, 3));
        let _others = exchanges.end(&first.exchange);
        assert_eq!(exchanges.work(), Work { busy: 1, ended: 1 });
    }

    #[tokio::test]
    async fn a_cancel_hands_back_what_waits_and_tells_what_has_begun() {
        let exchanges = Exchanges::default();
        let (session, mut outgoing) = session(&exchanges, 1);
        submit(&exchanges, &session, &[1, 2]);
        let first = exchanges.next().await.unwrap();
        exchanges.cancel(&session, 2);
        exchanges.cancel(&session, 1);
        assert_eq!(sent(&mut outgoing), [handed_back(2)]);
        assert!(first.exchange.is_gone());
    }

    #[tokio::test]
    async fn a_drain_hands_back_what_waits_and_what_comes_later() {
        let exchanges = Exchanges::default();
        let (one, mut to_one) = session(&exchanges, 1);
        submit(&exchanges, &one, &[1, 2]);
        let begun = exchanges.next().await.unwrap();
        exchanges.drain();
        submit(&exchanges, &one, &[3]);
        let (_two, mut to_two) = session(&exchanges, 2);
        let draining = || Message::Draining(Draining {});
        assert_eq!(sent(&mut to_one), [draining(), handed_back(2), handed_back(3)]);
        assert_eq!(sent(&mut to_two), [draining()]);
        assert!(exchanges.next().await.is_none());
        assert!(!begun.exchange.is_gone(), "what has begun is finished");

        let (_, ()) = tokio::join!(exchanges.deserted(), async {
            exchanges.half_close(1);
            exchanges.half_close(2);
        });
    }

    #[tokio::test]
    async fn a_lost_session_takes_its_requests_along() {
        let exchanges = Exchanges::default();
        let (one, _to_one) = session(&exchanges, 1);
        let (two, _to_two) = session(&exchanges, 2);
        submit(&exchanges, &one, &[1, 2]);
        submit(&exchanges, &two, &[1]);
        let begun = exchanges.next().await.unwrap();
        exchanges.lose(1);
        assert!(begun.exchange.is_gone());
        assert_eq!(exchanges.next().await.unwrap().exchange.session.stream, 2);
    }

    #[tokio::test]
    async fn what_waits_for_too_long_is_handed_back() {
        let exchanges = Exchanges::default();
        let (session, mut outgoing) = session(&exchanges, 1);
        submit(&exchanges, &session, &[1, 2]);
        exchanges.next().await.unwrap();
        for _ in 0..PATIENCE {
            exchanges.look(Duration::ZERO);
        }
        submit(&exchanges, &session, &[3]);
        assert_eq!(sent(&mut outgoing), []);
        exchanges.look(Duration::ZERO);
        assert_eq!(sent(&mut outgoing), [handed_back(2)]);
        assert_eq!(exchanges.next().await.unwrap().exchange.id, 3);
    }

    #[test]
    fn what_waits_is_bounded() {
        let exchanges = Exchanges::default();
        let (session, mut outgoing) = session(&exchanges, 1);
        submit(&exchanges, &session, &(0..=WAITING_LIMIT as u64).collect::<Vec<_>>());
        assert_eq!(sent(&mut outgoing), [handed_back(WAITING_LIMIT as u64)]);
    }
}
