//! The exchanges that are in flight on one link.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use api::runner::{ExchangeResponse, Failure, File, Header, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::Link;
use crate::backend::pool::{Lease, Slot};

/// What a worker reports about an exchange.
#[derive(Debug)]
pub(super) enum Event {
    /// The worker has started and asks for the body from this offset on. The receiver yields the next event.
    NeedBody(u64, oneshot::Receiver<Event>),
    /// Early hints for the client. The receiver yields the next event.
    EarlyHints(Vec<Header>, oneshot::Receiver<Event>),
    Settled(Outcome),
}

/// The outcome of an exchange.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The head of the response, and its body if that is small.
    Response {
        status: u32,
        headers: Vec<Header>,
        body: Bytes,
        /// Set if the body comes through the exchange's own call.
        streamed: Option<Receiving>,
        /// The reason phrase, if it isn't the standard one.
        reason: Bytes,
        file: Option<NamedFile>,
        /// The app's exception that caused this response, for developers.
        failure: Option<Box<Failure>>,
    },
    /// The worker hasn't started the request and never will.
    HandedBack,
    /// The request exceeded its limit and still runs.
    TimedOut,
    /// The request exceeded its limit, and the worker hasn't reported it.
    NoAnswer,
    /// The worker is gone.
    Broken(Broken),
}

/// What is known about an exchange whose worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The worker had reported that it started the request.
    Begun,
    /// The worker hadn't reported it. Workers only report it for unsafe methods.
    NotKnownToHaveBegun,
}

/// The exchanges of one link, ordered by their increasing ids. They end in roughly the same order, so most
/// are found and removed at the front.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    under_way: VecDeque<InFlight>,
    /// Response bodies that may not be received completely. The worker finishes an exchange before that.
    receiving: usize,
    /// No new exchanges start: the link is retired or broken.
    ended: bool,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    begun: bool,
    /// Why the worker was asked to hand it back.
    hand_back_reason: Option<HandBackReason>,
    /// When the client gets a timeout because the worker doesn't respond.
    deadline: Option<Instant>,
    /// `None` once the head was delivered or the client has left.
    reply: Option<oneshot::Sender<Event>>,
    lease: Lease<Arc<Link>>,
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
            InFlight { id, begun: false, hand_back_reason: None, deadline, reply: Some(reply), lease };
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
        let (next, events) = oneshot::channel();
        if let Some(reply) = exchange.reply.replace(next) {
            drop(state);
            let _client_has_gone = reply.send(Event::NeedBody(offset, events));
        }
    }

    pub(super) fn early_hints(&self, id: u64, headers: Vec<Header>) {
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return };
        let (next, events) = oneshot::channel();
        if let Some(reply) = exchange.reply.replace(next) {
            drop(state);
            let _client_has_gone = reply.send(Event::EarlyHints(headers, events));
        }
    }

    pub(super) fn response(&self, response: Response) -> LinkState {
        let Response { id, status, headers, body, streamed, done, file, reason, failure } = response;
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return state.link_state() };
        let reply = exchange.reply.take();
        if !done {
            exchange.lease.response_started();
        }
        let link = |wanted: bool| wanted.then(|| Arc::clone(exchange.lease.link()));
        let opening = link(!done && file.is_some()).map(|link| Opening { link, id });
        let receiving = link(streamed && reply.is_some());
        let file = file.map(|file| NamedFile { file, _opening: opening });
        state.receiving += usize::from(receiving.is_some());
        let streamed = receiving.map(Receiving);
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
        self.end(id, Outcome::Broken(Broken::Begun))
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
        Some(
            late.map(|it| {
                it.hand_back_reason = Some(HandBackReason::Recalled);
                it.id
            })
            .collect(),
        )
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
        drop(state);
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

    fn link_state(&self) -> LinkState {
        let idle = self.ended && self.under_way.is_empty() && self.receiving == 0;
        if idle { LinkState::Idle } else { LinkState::Busy }
    }
}

impl InFlight {
    /// Whether the exchange is queued at the worker, as far as this side knows.
    fn waits(&self) -> bool {
        self.lease.slot() == Slot::Queued && !self.begun && self.hand_back_reason.is_none()
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

/// A response body that is being received. Keeps the link open until it is dropped: a draining worker exits
/// once all its links are closed.
#[derive(Debug)]
pub(crate) struct Receiving(Arc<Link>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.received();
    }
}

/// A file that a response names instead of a body.
#[derive(Debug)]
pub(crate) struct NamedFile {
    file: Box<File>,
    /// Dropped on every path, once the file was opened or won't be.
    _opening: Option<Opening>,
}

impl NamedFile {
    /// The file, as named by the worker.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// The app keeps the file until this is dropped.
#[derive(Debug)]
struct Opening {
    link: Arc<Link>,
    id: u64,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.link.file_opened(self.id);
    }
}

/// The call that carries the bodies of an exchange.
pub(crate) type BodyCall = AbortOnDropHandle<Result<Streaming<ExchangeResponse>, Status>>;

/// The client's half of an exchange. If it is dropped before the worker has answered, the worker is told that
/// the client left.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) events: oneshot::Receiver<Event>,
    pub(super) settled: bool,
}

impl Pending {
    /// Waits for the outcome. Calls `need_body` when the worker asks for the request body, and `early_hints`
    /// for each batch of early hints.
    pub(crate) async fn outcome(
        &mut self,
        mut need_body: impl FnMut(&Arc<Link>, u64, u64),
        mut early_hints: impl FnMut(Vec<Header>),
    ) -> Outcome {
        loop {
            match (&mut self.events).await.unwrap_or(Event::Settled(Outcome::Broken(Broken::Begun))) {
                Event::NeedBody(offset, next) => {
                    self.events = next;
                    need_body(&self.link, self.id, offset);
                }
                Event::EarlyHints(headers, next) => {
                    self.events = next;
                    early_hints(headers);
                }
                Event::Settled(outcome) => {
                    self.settled =
                        !matches!(outcome, Outcome::Response { streamed: Some(_), .. } | Outcome::NoAnswer);
                    return outcome;
                }
            }
        }
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.link.worker()
    }

    /// Returns the stream of a response body: from the call that carried the request body, or from a new one.
    /// From then on, dropping the stream tells the worker that the client left.
    ///
    /// # Errors
    ///
    /// Returns an error if the worker is gone.
    pub(crate) async fn body(
        &mut self,
        call: Option<BodyCall>,
    ) -> Result<Streaming<ExchangeResponse>, Status> {
        let stream = match call {
            Some(call) => call.await.map_err(|_| Status::cancelled("the call ended with its shard"))?,
            None => self.link.bodies().open(self.id, tokio_stream::empty()).await,
        };
        self.settled = stream.is_ok();
        stream
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.settled {
            self.link.cancel(self.id);
        }
    }
}
