//! The exchanges that are in flight on one link.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use api::runner::{Header, Response};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Link;
use super::outcome::{Broken, Event, NamedFile, Outcome, Receiving};
use super::sockets::{Accepted, Sockets};
use crate::backend::pool::{Lease, Slot};

/// The exchanges of one link, ordered by their increasing ids. They end in roughly the same order, so most
/// are found and removed at the front.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    last_id: u64,
    under_way: VecDeque<InFlight>,
    /// Response bodies that may not be received completely. The worker finishes an exchange before that.
    receiving: usize,
    /// WebSockets that the worker has accepted. They aren't under way any more.
    pub(super) sockets: Sockets,
    /// No new exchanges start: the link is retired or broken.
    ended: bool,
}

/// An exchange that the worker has.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: u64,
    begun: bool,
    /// Why the worker was asked to hand it back.
    hand_back_reason: Option<HandBackReason>,
    /// How long the response may take.
    limit: Option<Duration>,
    /// When the client gets a timeout because the worker doesn't respond.
    deadline: Option<Instant>,
    /// `None` once the head was delivered or the client has left.
    pub(super) reply: Option<oneshot::Sender<Event>>,
    pub(super) lease: Lease<Arc<Link>>,
}

/// Why frontd asks a worker to hand back an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandBackReason {
    /// It has been queued there for too long, and should go to another worker.
    Recalled,
    /// The client has left, or it was never sent.
    Cancelled,
}

/// Whether an exchange was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is to be sent to the worker.
    Taken,
    HandedBack,
}

/// Whether anything is left to check regularly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckAgain {
    No,
    Yes,
}

/// Whether the link can be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    /// Retired, and nothing is in flight.
    Idle,
    Busy,
}

impl Exchanges {
    /// Adds an exchange. Its lease is held until the worker is done with it, whether or not the client still
    /// waits. If the link has ended since the lease was granted, the exchange is handed back and must not be
    /// sent.
    pub(super) fn begin(
        &self,
        lease: Lease<Arc<Link>>,
        limit: Option<Duration>,
    ) -> (u64, Entry, oneshot::Receiver<Event>) {
        let (reply, events) = oneshot::channel();
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        let deadline = limit.map(|it| lease.granted() + it);
        let mut exchange =
            InFlight { id, begun: false, hand_back_reason: None, limit, deadline, reply: Some(reply), lease };
        if state.ended {
            drop(state);
            exchange.hand_back_reason = Some(HandBackReason::Cancelled);
            exchange.settle(Outcome::HandedBack);
            return (id, Entry::HandedBack, events);
        }
        exchange.lease.sent();
        state.under_way.push_back(exchange);
        (id, Entry::Taken, events)
    }

    pub(super) fn begun(&self, id: u64) {
        if let Some(exchange) = self.state.lock().find(id) {
            exchange.begun = true;
        }
    }

    pub(super) fn need_body(&self, id: u64, offset: u64) {
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return };
        exchange.begun = true;
        if let Some((reply, events)) = exchange.take_reply() {
            drop(state);
            let _client_has_gone = reply.send(Event::NeedBody(offset, events));
        }
    }

    pub(super) fn early_hints(&self, id: u64, headers: Vec<Header>) {
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return };
        if let Some((reply, events)) = exchange.take_reply() {
            drop(state);
            let _client_has_gone = reply.send(Event::EarlyHints(headers, events));
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn response(&self, response: Response) -> LinkState {
        let mut state = self.state.lock();
        let Some(exchange) = state.find(response.id) else { return state.link_state() };
        if Self::is_acceptance(exchange, &response) {
            let exchange = state.remove(response.id);
            drop(state);
            if let Some(exchange) = exchange {
                self.accepted(exchange, response.headers);
            }
            return LinkState::Busy;
        }
        let Response { id, status, headers, body, streamed, done, file, reason, failure } = response;
        let reply = exchange.reply.take();
        if !done {
            exchange.lease.response_started();
        }
        let link = |wanted: bool| wanted.then(|| Arc::clone(exchange.lease.link()));
        let opening = link(!done && file.is_some());
        let receiving = link(streamed && reply.is_some());
        let file = file.map(|file| NamedFile::new(file, opening, id));
        state.receiving += usize::from(receiving.is_some());
        let streamed = receiving.map(|link| Receiving::new(link, id));
        let ended = done.then(|| state.remove(id)).flatten();
        let link_state = state.link_state();
        drop(state);
        // Send the response first: giving the lease back may dispatch the next request to the worker.
        if let Some(reply) = reply {
            let _client_has_gone = reply.send(Event::Settled(Outcome::Response {
                status,
                headers,
                body,
                streamed,
                reason,
                file,
                failure,
            }));
        }
        drop(ended);
        link_state
    }

    /// A response body was received completely, or isn't needed any more.
    pub(super) fn received(&self) -> LinkState {
        let mut state = self.state.lock();
        state.receiving -= 1;
        state.link_state()
    }

    /// The client gets its timeout at once. The lease is held until the worker is done.
    pub(super) fn timed_out(&self, id: u64) {
        let reply = self.state.lock().find(id).and_then(|it| it.reply.take());
        if let Some(reply) = reply {
            let _client_has_gone = reply.send(Event::Settled(Outcome::TimedOut));
        }
    }

    pub(super) fn done(&self, id: u64) -> LinkState {
        self.socket_done(id).unwrap_or_else(|| self.end(id, Outcome::Broken(Broken::Begun)))
    }

    pub(super) fn handed_back(&self, ids: &[u64]) -> LinkState {
        ids.iter().fold(LinkState::Busy, |_, id| self.end(*id, Outcome::HandedBack))
    }

    /// Returns the exchanges to recall: those queued at a worker that is stalled, or for too long. Each is
    /// returned once. `None` if none is queued.
    pub(super) fn recall(&self, now: Instant) -> Option<Vec<u64>> {
        let mut state = self.state.lock();
        let mut waiting = state.under_way.iter_mut().filter(|it| it.waits()).peekable();
        let stalled = waiting.peek()?.lease.is_stalled(now);
        let late = waiting.filter(|it| stalled || it.lease.is_overdue(now));
        Some(late.map(InFlight::recall).collect())
    }

    /// Returns all exchanges that are queued at the worker, to recall them. Each is returned once.
    pub(super) fn recall_queued(&self) -> Vec<u64> {
        let mut state = self.state.lock();
        state.under_way.iter_mut().filter(|it| it.waits()).map(InFlight::recall).collect()
    }

    /// The request's body is being sent while it arrives, which takes as long as the client wants.
    pub(super) fn upload_began(&self, id: u64) {
        if let Some(exchange) = self.state.lock().find(id) {
            exchange.deadline = None;
        }
    }

    /// The request's body is complete, or can't be: from now on, it is the worker that takes its time.
    /// Returns whether the exchange has a limit.
    pub(super) fn upload_ended(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return false };
        exchange.deadline = exchange.limit.map(|it| Instant::now() + it);
        exchange.deadline.is_some()
    }

    /// Times out the exchanges whose deadline has passed. Returns whether others have a deadline.
    pub(super) fn expire(&self, now: Instant) -> CheckAgain {
        let mut state = self.state.lock();
        let timed = |it: &&mut InFlight| it.reply.is_some() && it.deadline.is_some();
        let mut timed = state.under_way.iter_mut().filter(timed).peekable();
        if timed.peek().is_none() {
            return CheckAgain::No;
        }
        let late = timed.filter(|it| it.deadline.is_some_and(|it| it <= now));
        let replies: Vec<_> = late.filter_map(|it| it.reply.take()).collect();
        drop(state);
        for reply in replies {
            let _client_has_gone = reply.send(Event::Settled(Outcome::NoAnswer));
        }
        CheckAgain::Yes
    }

    /// Ends a reservation for an exclusive exchange that takes too long. Returns whether there is such an
    /// exchange.
    pub(super) fn check_exclusive(&self) -> CheckAgain {
        let state = self.state.lock();
        match state.under_way.iter().find(|it| it.lease.is_exclusive()) {
            Some(exchange) => {
                exchange.lease.expire_reservation();
                CheckAgain::Yes
            }
            None => CheckAgain::No,
        }
    }

    fn end(&self, id: u64, outcome: Outcome) -> LinkState {
        let mut state = self.state.lock();
        let ended = state.remove(id);
        let link_state = state.link_state();
        drop(state);
        if let Some(exchange) = ended {
            exchange.settle(outcome);
        }
        link_state
    }

    /// The client has left. Returns whether the worker still has the exchange.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let exchange = state.find(id);
        exchange.map(|it| it.hand_back_reason = Some(HandBackReason::Cancelled)).is_some()
    }

    /// Accepts no new exchanges.
    pub(super) fn retire(&self) -> LinkState {
        let mut state = self.state.lock();
        state.ended = true;
        state.link_state()
    }

    /// The worker is gone: all exchanges end.
    pub(super) fn broken(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let ended = mem::take(&mut state.under_way);
        let accepted = mem::take(&mut state.sockets);
        drop(state);
        accepted.into_values().for_each(Accepted::broken);
        for exchange in ended {
            let broken = if exchange.begun { Broken::Begun } else { Broken::NotKnownToHaveBegun };
            exchange.settle(Outcome::Broken(broken));
        }
    }
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut InFlight> {
        let at = self.position(id)?;
        self.under_way.get_mut(at)
    }

    fn remove(&mut self, id: u64) -> Option<InFlight> {
        self.under_way.remove(self.position(id)?)
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.under_way.binary_search_by_key(&id, |it| it.id).ok()
    }

    pub(super) fn link_state(&self) -> LinkState {
        let idle = self.ended && self.under_way.is_empty() && self.receiving == 0 && self.sockets.is_empty();
        if idle { LinkState::Idle } else { LinkState::Busy }
    }
}

impl InFlight {
    /// Whether the exchange is queued at the worker, as far as this side knows.
    fn waits(&self) -> bool {
        self.lease.slot() == Slot::Queued && !self.begun && self.hand_back_reason.is_none()
    }

    /// Records that the exchange is being recalled. Returns its id.
    fn recall(&mut self) -> u64 {
        self.hand_back_reason = Some(HandBackReason::Recalled);
        self.id
    }

    /// Takes the sender of the next event, if somebody still waits for one, and replaces it. Returns it with the events
    /// that follow.
    fn take_reply(&mut self) -> Option<(oneshot::Sender<Event>, oneshot::Receiver<Event>)> {
        let reply = self.reply.take()?;
        let (next, events) = oneshot::channel();
        self.reply = Some(next);
        Some((reply, events))
    }

    fn settle(self, outcome: Outcome) {
        // Release the lease first: the receiver may ask for another one.
        match (&outcome, self.hand_back_reason) {
            (Outcome::HandedBack, None) => self.lease.declined(),
            (Outcome::HandedBack, Some(HandBackReason::Recalled)) => self.lease.recalled(),
            (Outcome::HandedBack, Some(HandBackReason::Cancelled)) => self.lease.cancelled(),
            _ => drop(self.lease),
        }
        if let Some(reply) = self.reply {
            let _client_has_gone = reply.send(Event::Settled(outcome));
        }
    }
}
