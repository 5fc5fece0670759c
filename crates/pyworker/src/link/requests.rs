//! All requests of this worker, from arrival to completion.

mod look;

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use api::runner::serve_response::Message;
use api::runner::{Draining, Request};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::active::ActiveRequest;
use super::session::Session;
use super::token::CallToken;

pub(crate) use self::look::Rest;

/// The largest number of waiting requests. frontd sends only a few more than there is capacity; this limits
/// one that misbehaves.
const WAITING_LIMIT: usize = 1024;

/// The requests of all sessions, in order of arrival.
///
/// ```text
///   submit ──▶ waiting ──next──▶ started ──end──▶ done
///     │           │                │
///     │           │                └─ cancel, session lost: learns that the client has disconnected
///     │           └─ recall, cancel, drain, waited too long: handed back; session lost: dropped
///     └─ draining or full: handed back
/// ```
#[derive(Debug, Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    /// Notified when a request waits, or when none will any more.
    ready: Notify,
    /// Notified when this worker begins to drain.
    draining: Notify,
    /// Notified when a session has ended.
    left: Notify,
    /// Notified when a request was started while the watchdog slept.
    occupied: Notify,
}

#[derive(Debug, Default)]
struct State {
    sessions: Vec<Arc<Session>>,
    waiting: VecDeque<Waiting>,
    active: Vec<Arc<ActiveRequest>>,
    /// WebSockets that were accepted, by stream and id.
    sockets: HashMap<(u64, u64), Arc<ActiveRequest>>,
    phase: Phase,
    ended: u64,
    /// The watchdog of deadlines sleeps, and has to be woken by the next request.
    watchdog_sleeps: bool,
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
    /// How many looks have seen it waiting.
    looks: u8,
}

/// The worker's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Requests that are running.
    pub(crate) busy: usize,
    /// Requests that have completed.
    pub(crate) ended: u64,
}

/// What is to be known after a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) others: Others,
    /// It was a WebSocket that had been accepted.
    pub(crate) was_socket: bool,
}

/// Whether requests are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    None,
    Wait,
}

impl Requests {
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

    /// frontd wants a request back, unless it was started.
    pub(crate) fn recall(&self, session: &Session, id: u64) {
        if self.state.lock().forget(session.stream, id) {
            session.hand_back(vec![id]);
        }
    }

    /// The client of a request has disconnected.
    pub(crate) fn cancel(&self, session: &Session, id: u64) {
        self.recall(session, id);
        if let Some(active) = self.find(session.stream, id) {
            active.cancel();
        }
    }

    /// frontd sends nothing more on a session.
    pub(crate) fn half_close(&self, stream: u64) {
        self.state.lock().sessions.retain(|it| it.stream != stream);
        self.left.notify_waiters();
    }

    /// A session broke. It may also have ended normally, and then no requests are left.
    pub(crate) fn lose(&self, stream: u64) {
        self.half_close(stream);
        let mut state = self.state.lock();
        state.waiting.retain(|it| it.session.stream != stream);
        let running = state.active.iter().chain(state.sockets.values());
        for lost in running.filter(|it| it.session.stream == stream) {
            lost.cancel();
        }
    }

    /// Finds a request that was started and hasn't ended.
    pub(crate) fn find(&self, stream: u64, id: u64) -> Option<Arc<ActiveRequest>> {
        let state = self.state.lock();
        let running = state.active.iter().find(|it| it.id == id && it.session.stream == stream);
        running.or_else(|| state.sockets.get(&(stream, id))).cloned()
    }

    /// Finds a WebSocket that was accepted.
    pub(crate) fn find_socket(&self, stream: u64, id: u64) -> Option<Arc<ActiveRequest>> {
        self.state.lock().sockets.get(&(stream, id)).cloned()
    }

    /// A WebSocket was accepted: it doesn't count as a running request any more.
    pub(crate) fn accept_socket(&self, active: &Arc<ActiveRequest>) {
        let mut state = self.state.lock();
        state.active.retain(|it| !Arc::ptr_eq(it, active));
        state.sockets.insert((active.session.stream, active.id), Arc::clone(active));
    }

    /// Whether it is a WebSocket that was accepted.
    pub(crate) fn is_socket(&self, active: &ActiveRequest) -> bool {
        self.state.lock().sockets.contains_key(&(active.session.stream, active.id))
    }

    /// All WebSockets that were accepted.
    pub(crate) fn sockets(&self) -> Vec<Arc<ActiveRequest>> {
        self.state.lock().sockets.values().cloned().collect()
    }

    /// Finds the request that the app is being called for by `call`.
    pub(crate) fn find_call(&self, call: CallToken) -> Option<Arc<ActiveRequest>> {
        let state = self.state.lock();
        let running = state.active.iter().chain(state.sockets.values());
        running.into_iter().find(|it| it.deadline.token() == Some(call)).cloned()
    }

    /// Starts the next request, or waits for one. `None` once this worker drains.
    pub(crate) async fn next(&self) -> Option<Arc<ActiveRequest>> {
        loop {
            if let Some(active) = self.try_next(usize::MAX) {
                return Some(active);
            }
            let mut ready = pin!(self.ready.notified());
            ready.as_mut().enable();
            if let Some(active) = self.try_next(usize::MAX) {
                return Some(active);
            }
            if self.is_draining() {
                return None;
            }
            ready.await;
        }
    }

    /// Starts the next request, if one waits and fewer than `limit` are running.
    pub(crate) fn try_next(&self, limit: usize) -> Option<Arc<ActiveRequest>> {
        let mut state = self.state.lock();
        if state.active.len() >= limit {
            return None;
        }
        let Waiting { session, request, .. } = state.waiting.pop_front()?;
        if std::mem::take(&mut state.watchdog_sleeps) {
            self.occupied.notify_one();
        }
        let active = Arc::new(ActiveRequest::new(request, session));
        state.active.push(Arc::clone(&active));
        Some(active)
    }

    /// Whether `try_next` would start a request.
    pub(crate) fn can_start(&self, limit: usize) -> bool {
        let state = self.state.lock();
        !state.waiting.is_empty() && state.active.len() < limit
    }

    /// Ends a request, which frees its capacity.
    pub(crate) fn end(&self, active: &Arc<ActiveRequest>) -> Ended {
        active.end();
        let mut state = self.state.lock();
        let at = state.active.iter().position(|it| Arc::ptr_eq(it, active));
        let was_socket = match at {
            Some(at) => {
                state.active.swap_remove(at);
                false
            }
            None => state.sockets.remove(&(active.session.stream, active.id)).is_some(),
        };
        state.ended += 1;
        Ended { others: if state.waiting.is_empty() { Others::None } else { Others::Wait }, was_socket }
    }

    /// Accepts nothing more, and hands back all requests that weren't started.
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
        self.draining.notify_waiters();
    }

    /// Whether this worker drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.lock().phase == Phase::Draining
    }

    /// Waits until this worker drains.
    pub(crate) async fn draining(&self) {
        let mut draining = pin!(self.draining.notified());
        draining.as_mut().enable();
        if !self.is_draining() {
            draining.await;
        }
    }

    /// Sends a message to every frontd.
    pub(crate) fn announce(&self, message: &Message) {
        for session in &self.state.lock().sessions {
            session.send(message.clone());
        }
    }

    /// Hands back all requests that weren't started.
    pub(crate) fn hand_back_waiting(&self) {
        for Waiting { session, request, .. } in self.state.lock().waiting.drain(..) {
            session.hand_back(vec![request.id]);
        }
    }

    /// Waits until every frontd has half-closed its sessions.
    pub(crate) async fn all_half_closed(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.state.lock().sessions.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Returns the current load.
    pub(crate) fn work(&self) -> Work {
        let state = self.state.lock();
        Work { busy: state.active.len(), ended: state.ended }
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
