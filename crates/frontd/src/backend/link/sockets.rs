//! The WebSockets on one link: what the worker sends waits here until the client takes it.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::task::Context;

use api::runner::{SocketClose, SocketCredit, SocketMessage, serve_request};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tracing::warn;

use super::Link;
use crate::backend::pool::SocketLease;
use crate::limits::quota::Quota;

/// The credit that each side has at first, in bytes.
const WINDOW: u32 = 256 * 1024;

/// What a message counts in addition to its payload.
const OVERHEAD: usize = 64;

/// Maximum payload of one message on the link.
pub(crate) const PART: usize = 64 * 1024;

/// Credit is given back once it is this much, so that small messages cost no messages back.
const GIVE_BACK: u32 = WINDOW / 4;

/// Smaller payloads aren't counted while they wait for the client.
const COUNTED: usize = 4096;

/// A queue that was longer gives its memory back when it is empty.
const KEPT_EVENTS: usize = 16;

/// What a worker sends on a WebSocket.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    /// A message, or a part of one. `is_last` says whether it ends the message.
    Message { payload: Bytes, is_text: bool, is_last: bool },
    /// The app closes the WebSocket.
    Close { code: u32, reason: String },
    /// The worker is done with it, and should have closed it before.
    Ended,
    /// The worker sent more than it may.
    TooMuch,
    /// The worker is gone.
    Broken,
}

/// The accepted WebSockets of a link.
pub(super) type Sockets = HashMap<u64, Accepted>;

/// A WebSocket that the worker has. Its lease is held until the worker is done with it.
#[derive(Debug)]
pub(super) struct Accepted {
    inbox: Arc<Inbox>,
    _lease: SocketLease<Arc<Link>>,
}

/// What waits for the client.
#[derive(Debug)]
struct Inbox {
    state: Mutex<Received>,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Received {
    events: VecDeque<SocketEvent>,
    /// How much the worker may still send. Negative if it has sent more than it may.
    window: i64,
    /// How much may be sent to the worker.
    credit: u32,
    /// The client's memory, as soon as somebody reads.
    memory: Option<Arc<Quota>>,
    /// Nobody reads any more.
    closed: bool,
}

/// The client's half of a WebSocket. If it is dropped before it is closed, the worker is told that the connection ended.
#[derive(Debug)]
pub(crate) struct Socket {
    link: Arc<Link>,
    id: u64,
    inbox: Arc<Inbox>,
    /// Credit to give back.
    owed: u32,
    /// The worker has closed it, was told that it is closed, or is gone.
    closed: bool,
}

impl Inbox {
    fn new() -> Arc<Self> {
        let received = Received {
            events: VecDeque::new(),
            window: WINDOW.into(),
            credit: WINDOW,
            memory: None,
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(received), waker: AtomicWaker::new() })
    }

    fn push(&self, event: SocketEvent) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.events.push_back(event);
        drop(state);
        self.waker.wake();
    }
}

/// What a message counts against the credit.
fn cost(payload: usize) -> u32 {
    u32::try_from(payload.saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
}

impl Accepted {
    /// A WebSocket that the worker has accepted, and the client's half of it.
    pub(super) fn new(link: Arc<Link>, id: u64, lease: SocketLease<Arc<Link>>) -> (Self, Socket) {
        let inbox = Inbox::new();
        let socket = Socket { link, id, inbox: Arc::clone(&inbox), owed: 0, closed: false };
        (Self { inbox, _lease: lease }, socket)
    }

    pub(super) fn message(&self, message: SocketMessage) {
        let SocketMessage { id, mut payload, text, more } = message;
        let mut state = self.inbox.state.lock();
        state.window -= i64::from(cost(payload.len()));
        // A worker may send a part as long as any credit is left.
        if state.window < -i64::from(cost(PART)) && !state.closed {
            warn!(id, "WebSocket closed: its worker sent more than it may");
            state.events.clear();
            drop(state);
            return self.inbox.push(SocketEvent::TooMuch);
        }
        if payload.len() > COUNTED
            && let Some(memory) = &state.memory
        {
            payload = memory.count(payload);
        }
        drop(state);
        self.inbox.push(SocketEvent::Message { payload, is_text: text, is_last: !more });
    }

    pub(super) fn credit(&self, bytes: u32) {
        let mut state = self.inbox.state.lock();
        state.credit = state.credit.saturating_add(bytes);
        drop(state);
        self.inbox.waker.wake();
    }

    pub(super) fn close(&self, code: u32, reason: String) {
        self.inbox.push(SocketEvent::Close { code, reason });
    }

    /// The worker is done with it.
    pub(super) fn ended(self) {
        self.inbox.push(SocketEvent::Ended);
    }

    /// The worker is gone.
    pub(super) fn broken(self) {
        self.inbox.push(SocketEvent::Broken);
    }
}

impl Socket {
    /// Waiting messages count against `memory` from now on.
    pub(crate) fn count_in(&self, memory: &Arc<Quota>) {
        self.inbox.state.lock().memory = Some(Arc::clone(memory));
    }

    /// Has the task woken when the worker sends something, credit included.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.inbox.waker.register(cx.waker());
    }

    /// What the worker sends next. The task must be registered.
    pub(crate) fn next(&mut self) -> Option<SocketEvent> {
        let mut state = self.inbox.state.lock();
        let event = state.events.pop_front()?;
        if state.events.is_empty() && state.events.capacity() > KEPT_EVENTS {
            state.events = VecDeque::new();
        }
        match &event {
            SocketEvent::Message { payload, .. } => {
                self.owed += cost(payload.len());
                if self.owed >= GIVE_BACK {
                    let (id, bytes) = (self.id, mem::take(&mut self.owed));
                    state.window += i64::from(bytes);
                    drop(state);
                    self.link.send(serve_request::Message::SocketCredit(SocketCredit { id, bytes }));
                }
            }
            SocketEvent::TooMuch => {}
            SocketEvent::Close { .. } | SocketEvent::Ended | SocketEvent::Broken => self.closed = true,
        }
        Some(event)
    }

    /// Sends a message to the worker, as far as its credit allows. Returns the rest that has to wait, which is never
    /// empty. The task must be registered.
    pub(crate) fn send(&mut self, mut payload: Bytes, is_text: bool) -> Option<Bytes> {
        loop {
            let part = payload.len().min(PART);
            if !self.closed {
                let mut state = self.inbox.state.lock();
                match state.credit.checked_sub(cost(part)) {
                    Some(left) => state.credit = left,
                    None => return Some(payload),
                }
            }
            let part = payload.split_to(part);
            let more = !payload.is_empty();
            let message = SocketMessage { id: self.id, payload: part, text: is_text, more };
            if !self.closed {
                self.link.send(serve_request::Message::SocketMessage(message));
            }
            if !more {
                return None;
            }
        }
    }

    /// Tells the worker that the WebSocket is closed, unless it has closed it itself.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        if !mem::replace(&mut self.closed, true) {
            let (id, code, reason) = (self.id, code.into(), reason.to_owned());
            self.link.send(serve_request::Message::SocketClose(SocketClose { id, code, reason }));
        }
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.link.worker()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close(1006, "");
        let mut state = self.inbox.state.lock();
        state.closed = true;
        state.events = VecDeque::new();
    }
}
