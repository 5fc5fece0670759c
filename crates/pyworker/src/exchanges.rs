//! Every request of this worker, from its arrival to its end.

mod look;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use api::runner::serve_response::Message;
use api::runner::{Draining, Request};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::deadline::ThreadId;
use crate::exchange::Exchange;
use crate::session::Session;

pub(crate) use self::look::Rest;

/// What waits at most. frontd sends a few more than there is room for; this bounds one that does not.
const WAITING_LIMIT: usize = 1024;

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

/// Whether requests wait to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    None,
    Wait,
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
    fn forget(&mut self, stream: u64, id: u64) -> bool {
        let at = self.waiting.iter().position(|it| it.request.id == id && it.session.stream == stream);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests;
