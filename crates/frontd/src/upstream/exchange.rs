//! The exchanges that are under way on one link.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::runner::{ExchangeResponse, Failure, File, Header, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::Link;
use crate::pool::{Lease, Place};

/// What a worker says of an exchange.
#[derive(Debug)]
pub(super) enum Event {
    /// The worker has begun and asks for the body from an offset on; the next event comes by the receiver.
    NeedBody(u64, oneshot::Receiver<Event>),
    /// What the client may load meanwhile; the next event comes by the receiver.
    EarlyHints(Vec<Header>, oneshot::Receiver<Event>),
    Settled(Outcome),
}

/// What becomes of an exchange.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The head of the response, and its body where it is small.
    Response {
        status: u32,
        headers: Vec<Header>,
        body: Bytes,
        /// Its body comes by the exchange's own call.
        streamed: Option<Receiving>,
        /// The reason phrase, where it is not the usual one.
        reason: Bytes,
        file: Option<NamedFile>,
        /// The exception of the app that this answers for; for its developer.
        failure: Option<Box<Failure>>,
    },
    /// The worker has not begun it and never will.
    HandedBack,
    /// The worker is over the limit, and still at it.
    TimedOut,
    /// The worker is over the limit, and does not say so.
    NoAnswer,
    /// The worker is gone.
    Broken(Broken),
}

/// What is known of an exchange whose worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The worker had said that it begins.
    Begun,
    /// It had not. A worker says so only of unsafe methods.
    NotKnownToHaveBegun,
}

/// The exchanges of one link by their ids, which only grow. They end in about the order in which they began, so
/// that nearly all are found and removed at the front.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    under_way: VecDeque<Exchange>,
    /// Bodies of responses that may not be here whole. A worker is done with an exchange before that.
    receiving: usize,
    /// Nothing new is begun: the link is retired or broken.
    ended: bool,
}

#[derive(Debug)]
struct Exchange {
    id: u64,
    begun: bool,
    /// Why the worker was told to give it back.
    asked_back: Option<AskedBack>,
    /// When its client is told that the worker does not answer.
    deadline: Option<Instant>,
    /// Nobody, once the head was passed on or the client has gone.
    reply: Option<oneshot::Sender<Event>>,
    lease: Lease<Arc<Link>>,
}

/// Why frontd wants an exchange back that its worker has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedBack {
    /// It waits there for too long, and is to go to another worker.
    Recalled,
    /// Its client has gone, or it was never sent.
    Cancelled,
}

/// Whether an exchange came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is to be sent to the worker.
    Taken,
    HandedBack,
}

/// Whether there is anything left to look after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    Nothing,
    More,
}

/// Whether the link can be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Ended, and nothing is under way any more.
    Idle,
    Busy,
}

impl Exchanges {
    /// Takes an exchange in; its lease is held until the worker is done with it, whether the client waits or not.
    /// A link that came to its end since the lease was granted hands it back, and nothing is to be sent.
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
            Exchange { id, begun: false, asked_back: None, deadline, reply: Some(reply), lease };
        if state.ended {
            drop(state);
            exchange.asked_back = Some(AskedBack::Cancelled);
            exchange.tell(Outcome::HandedBack);
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

    pub(super) fn response(&self, response: Response) -> Rest {
        let Response { id, status, headers, body, streamed, done, file, reason, failure } = response;
        let mut state = self.state.lock();
        let Some(exchange) = state.find(id) else { return state.rest() };
        let reply = exchange.reply.take();
        if !done {
            exchange.lease.has_answered();
        }
        let link = |wanted: bool| wanted.then(|| Arc::clone(exchange.lease.link()));
        let opening = link(!done && file.is_some()).map(|link| Opening { link, id });
        let receiving = link(streamed && reply.is_some());
        let file = file.map(|file| NamedFile { file, _opening: opening });
        state.receiving += usize::from(receiving.is_some());
        let streamed = receiving.map(Receiving);
        let ended = done.then(|| state.remove(id)).flatten();
        let rest = state.rest();
        drop(state);
        // The answer first: giving room back may hand the worker's next request out.
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
        rest
    }

    /// The body of a response is here, or not wanted any more.
    pub(super) fn received(&self) -> Rest {
        let mut state = self.state.lock();
        state.receiving -= 1;
        state.rest()
    }

    /// The client is told at once; the room is taken until the worker is done.
    pub(super) fn timed_out(&self, id: u64) {
        let reply = self.state.lock().find(id).and_then(|it| it.reply.take());
        if let Some(reply) = reply {
            let _client_has_gone = reply.send(Event::Settled(Outcome::TimedOut));
        }
    }

    pub(super) fn done(&self, id: u64) -> Rest {
        self.end(id, Outcome::Broken(Broken::Begun))
    }

    pub(super) fn handed_back(&self, ids: &[u64]) -> Rest {
        ids.iter().fold(Rest::Busy, |_, id| self.end(*id, Outcome::HandedBack))
    }

    /// The exchanges that wait at a worker that is held up, or for too long, each once; `None` when none waits.
    pub(super) fn recall(&self, now: Instant) -> Option<Vec<u64>> {
        let mut state = self.state.lock();
        let mut waiting = state.under_way.iter_mut().filter(|it| it.waits()).peekable();
        let held_up = waiting.peek()?.lease.is_held_up(now);
        let late = waiting.filter(|it| held_up || it.lease.is_overdue(now));
        Some(
            late.map(|it| {
                it.asked_back = Some(AskedBack::Recalled);
                it.id
            })
            .collect(),
        )
    }

    /// Tells the clients of those that are over their limit; whether any may come to be.
    pub(super) fn expire(&self, now: Instant) -> Watch {
        let mut state = self.state.lock();
        let timed = |it: &&mut Exchange| it.reply.is_some() && it.deadline.is_some();
        let mut timed = state.under_way.iter_mut().filter(timed).peekable();
        if timed.peek().is_none() {
            return Watch::Nothing;
        }
        let late = timed.filter(|it| it.deadline.is_some_and(|it| it <= now));
        let replies: Vec<_> = late.filter_map(|it| it.reply.take()).collect();
        drop(state);
        for reply in replies {
            let _client_has_gone = reply.send(Event::Settled(Outcome::NoAnswer));
        }
        Watch::More
    }

    /// Ends what an exclusive exchange holds up for too long; whether there is one.
    pub(super) fn look_after_exclusive(&self) -> Watch {
        let state = self.state.lock();
        match state.under_way.iter().find(|it| it.lease.is_exclusive()) {
            Some(exchange) => {
                exchange.lease.look_after();
                Watch::More
            }
            None => Watch::Nothing,
        }
    }

    fn end(&self, id: u64, outcome: Outcome) -> Rest {
        let mut state = self.state.lock();
        let ended = state.remove(id);
        let rest = state.rest();
        drop(state);
        if let Some(exchange) = ended {
            exchange.tell(outcome);
        }
        rest
    }

    /// The client has gone; whether the exchange is still the worker's.
    pub(super) fn cancel(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let exchange = state.find(id);
        exchange.map(|it| it.asked_back = Some(AskedBack::Cancelled)).is_some()
    }

    /// Nothing new is begun here.
    pub(super) fn retire(&self) -> Rest {
        let mut state = self.state.lock();
        state.ended = true;
        state.rest()
    }

    /// The worker is gone: all that was under way ends.
    pub(super) fn broken(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let ended = mem::take(&mut state.under_way);
        drop(state);
        for exchange in ended {
            let broken = if exchange.begun { Broken::Begun } else { Broken::NotKnownToHaveBegun };
            exchange.tell(Outcome::Broken(broken));
        }
    }
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut Exchange> {
        let at = self.position(id)?;
        self.under_way.get_mut(at)
    }

    fn remove(&mut self, id: u64) -> Option<Exchange> {
        self.under_way.remove(self.position(id)?)
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.under_way.binary_search_by_key(&id, |it| it.id).ok()
    }

    fn rest(&self) -> Rest {
        let idle = self.ended && self.under_way.is_empty() && self.receiving == 0;
        if idle { Rest::Idle } else { Rest::Busy }
    }
}

impl Exchange {
    /// Whether others were before it, as far as is known here.
    fn waits(&self) -> bool {
        self.lease.place() == Place::Ahead && !self.begun && self.asked_back.is_none()
    }

    fn tell(self, outcome: Outcome) {
        // The room first: who is told may come back for more.
        match (&outcome, self.asked_back) {
            (Outcome::HandedBack, None) => self.lease.declined(),
            (Outcome::HandedBack, Some(AskedBack::Recalled)) => self.lease.recalled(),
            (Outcome::HandedBack, Some(AskedBack::Cancelled)) => self.lease.cancelled(),
            _ => drop(self.lease),
        }
        if let Some(reply) = self.reply {
            let _client_has_gone = reply.send(Event::Settled(outcome));
        }
    }
}

/// The body of a response is being received: until this is dropped the link stays open, as a worker that drains ends
/// once all of its links are closed.
#[derive(Debug)]
pub(crate) struct Receiving(Arc<Link>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.received();
    }
}

/// A file that a response names in place of its body.
#[derive(Debug)]
pub(crate) struct NamedFile {
    file: Box<File>,
    /// Dropped after the file was opened, or will not be: on every way.
    _opening: Option<Opening>,
}

impl NamedFile {
    /// What the worker says of it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// The app keeps a file until this is dropped.
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

/// The client's half of an exchange. Dropped before the worker answered, it tells the worker that the
/// client has gone.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) events: oneshot::Receiver<Event>,
    pub(super) settled: bool,
}

impl Pending {
    /// What becomes of it; `need_body` is called when the worker asks for the request's body on the way, and
    /// `early_hints` with what it has for the client meanwhile.
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

    /// The body of a response that is streamed: from the call that carried the request's, or from its own.
    /// Once it is here, dropping it is what tells the worker that the client has gone.
    ///
    /// # Errors
    /// When the worker is gone.
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
