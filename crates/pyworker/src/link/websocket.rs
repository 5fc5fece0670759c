//! One WebSocket between frontd, which speaks its protocol with the client, and the app: whole messages, in both
//! directions, each limited by the credit of its receiver.

use std::collections::VecDeque;

use api::runner::serve_response::Message;
use api::runner::{SocketClose, SocketCredit, SocketMessage};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::session::Session;

/// How many bytes the receiver has room for, at first.
const CREDIT: i64 = 256 << 10;
/// What each part costs in addition to its payload, in bytes.
const PART_COST: usize = 64;
/// The largest payload of a part.
const PART_SIZE: usize = 64 << 10;
/// The credit that is returned at once.
const RETURNED: usize = 64 << 10;
/// The code of a connection that ended without a close frame (RFC 6455, section 7.4.1).
const ABNORMAL: u32 = 1006;

/// A WebSocket of the exchange with this id.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Messages that the app hasn't received.
    received: VecDeque<Received>,
    /// The beginning of a message whose end hasn't arrived.
    partial: BytesMut,
    /// What the app has received since credit was returned.
    consumed: usize,
    /// Parts of an incomplete message whose credit is returned once all complete ones were received.
    withheld: usize,
    /// The end, after the messages.
    closed: Option<Closed>,
    /// How many bytes frontd has room for.
    credit: i64,
    /// Parts that wait for credit.
    outgoing: VecDeque<SocketMessage>,
    /// What is sent after them.
    close: Option<SocketClose>,
    /// The app has closed it.
    is_ending: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            partial: BytesMut::new(),
            consumed: 0,
            withheld: 0,
            closed: None,
            credit: CREDIT,
            outgoing: VecDeque::new(),
            close: None,
            is_ending: false,
        }
    }
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) payload: Bytes,
    pub(crate) text: bool,
    /// What it takes of the credit of frontd.
    cost: usize,
}

/// The end of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// RFC 6455, section 7.4.
    pub(crate) code: u32,
    pub(crate) reason: String,
}

/// What the app receives next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Message(Received),
    Closed(Closed),
    /// Nothing has arrived.
    Later,
}

/// It has ended: nothing can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WebSocket is closed")]
pub(crate) struct IsClosed;

impl WebSocket {
    /// A part of a message has arrived.
    pub(crate) fn arrive(&self, part: SocketMessage, session: &Session) {
        let cost = part.payload.len() + PART_COST;
        let mut state = self.state.lock();
        if state.closed.is_some() || state.is_ending {
            // Nobody receives it. frontd may have to finish the message before it sees the end.
            return give_back(session, part.id, cost);
        }
        if part.more {
            state.partial.extend_from_slice(&part.payload);
            if !state.received.is_empty() {
                state.withheld += cost;
                return;
            }
            drop(state);
            // The app waits for it, and frontd limits the size of a message.
            return give_back(session, part.id, cost);
        }
        let payload = if state.partial.is_empty() {
            part.payload
        } else {
            state.partial.extend_from_slice(&part.payload);
            std::mem::take(&mut state.partial).freeze()
        };
        state.received.push_back(Received { payload, text: part.text, cost });
    }

    /// The client has closed it, or has gone.
    pub(crate) fn close_by_client(&self, code: u32, reason: String) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(Closed { code, reason });
        state.outgoing.clear();
        state.close = None;
    }

    /// frontd has gone, and with it the client.
    pub(crate) fn lose(&self) {
        self.close_by_client(ABNORMAL, String::new());
    }

    /// Takes the next message, or the end.
    pub(crate) fn take(&self, id: u64, session: &Session) -> Next {
        let mut state = self.state.lock();
        let Some(message) = state.received.pop_front() else {
            return state.closed.clone().map_or(Next::Later, Next::Closed);
        };
        state.consumed += message.cost;
        if state.received.is_empty() {
            state.consumed += std::mem::take(&mut state.withheld);
        }
        if state.consumed >= RETURNED {
            let consumed = std::mem::take(&mut state.consumed);
            drop(state);
            give_back(session, id, consumed);
        }
        Next::Message(message)
    }

    /// How it has ended, if it has.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.state.lock().closed.clone()
    }

    /// Whether `take` would return something.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        !state.received.is_empty() || state.closed.is_some()
    }

    /// Sends a message, as far as there is credit.
    ///
    /// # Errors
    /// If the WebSocket is closed.
    pub(crate) fn send(
        &self,
        id: u64,
        mut payload: Bytes,
        text: bool,
        session: &Session,
    ) -> Result<(), IsClosed> {
        let mut state = self.state.lock();
        if state.closed.is_some() || state.is_ending {
            return Err(IsClosed);
        }
        loop {
            let part = payload.split_to(payload.len().min(PART_SIZE));
            let more = !payload.is_empty();
            state.outgoing.push_back(SocketMessage { id, payload: part, text, more });
            if !more {
                break;
            }
        }
        state.flush(session);
        Ok(())
    }

    /// Whether everything that was sent has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.state.lock().outgoing.is_empty()
    }

    /// frontd has room for more.
    pub(crate) fn add_credit(&self, bytes: u32, session: &Session) {
        let mut state = self.state.lock();
        state.credit = state.credit.saturating_add(bytes.into());
        state.flush(session);
    }

    /// Closes it after what was sent. Returns false if it is closed already.
    pub(crate) fn close(&self, id: u64, code: u32, reason: String, session: &Session) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() || std::mem::replace(&mut state.is_ending, true) {
            return false;
        }
        state.close = Some(SocketClose { id, code, reason });
        state.flush(session);
        true
    }

    /// Closes it at once, from outside of the app, which receives the same end.
    pub(crate) fn end(&self, id: u64, code: u32, reason: &str, session: &Session) {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(Closed { code, reason: reason.to_owned() });
        state.outgoing.clear();
        if state.close.take().is_some() || !std::mem::replace(&mut state.is_ending, true) {
            session.send(Message::SocketClose(SocketClose { id, code, reason: reason.to_owned() }));
        }
    }
}

impl State {
    fn flush(&mut self, session: &Session) {
        while self.credit > 0
            && let Some(part) = self.outgoing.pop_front()
        {
            self.credit -= i64::try_from(part.payload.len() + PART_COST).unwrap_or(i64::MAX);
            session.send(Message::SocketMessage(part));
        }
        if self.outgoing.is_empty()
            && let Some(close) = self.close.take()
        {
            session.send(Message::SocketClose(close));
        }
    }
}

fn give_back(session: &Session, id: u64, bytes: usize) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    session.send(Message::SocketCredit(SocketCredit { id, bytes }));
}

#[cfg(test)]
mod tests {
    use api::runner::ServeResponse;
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    const ID: u64 = 7;

    fn socket() -> (WebSocket, Session, UnboundedReceiver<ServeResponse>) {
        let (session, sent) = Session::new(1, 0);
        (WebSocket::default(), session, sent)
    }

    fn part(payload: &[u8], more: bool) -> SocketMessage {
        SocketMessage { id: ID, payload: Bytes::copy_from_slice(payload), text: true, more }
    }

    fn sent(sent: &mut UnboundedReceiver<ServeResponse>) -> Vec<Message> {
        std::iter::from_fn(|| sent.try_recv().ok().and_then(|it| it.message)).collect()
    }

    #[test]
    fn parts_become_messages_and_the_end_comes_after_them() {
        let (socket, session, _sent) = socket();
        assert_eq!(socket.take(ID, &session), Next::Later);
        socket.arrive(part(b"a", true), &session);
        assert!(!socket.is_ready());
        socket.arrive(part(b"b", false), &session);
        socket.arrive(part(b"", false), &session);
        socket.close_by_client(1001, "bye".to_owned());
        for expected in ["ab", ""] {
            let Next::Message(message) = socket.take(ID, &session) else { panic!("no message") };
            assert_eq!((&*message.payload, message.text), (expected.as_bytes(), true));
        }
        let closed = Next::Closed(Closed { code: 1001, reason: "bye".to_owned() });
        assert_eq!(socket.take(ID, &session), closed);
        assert_eq!(socket.take(ID, &session), closed);
        assert_eq!(socket.send(ID, Bytes::new(), true, &session), Err(IsClosed));
    }

    #[test]
    fn credit_is_returned_when_the_app_has_received() {
        let (socket, session, mut outgoing) = socket();
        socket.arrive(part(&[0; PART_SIZE], false), &session);
        assert_eq!(sent(&mut outgoing), []);
        assert!(matches!(socket.take(ID, &session), Next::Message(_)));
        let bytes = u32::try_from(PART_SIZE + PART_COST).unwrap();
        assert_eq!(sent(&mut outgoing), [Message::SocketCredit(SocketCredit { id: ID, bytes })]);
        // The parts of an incomplete message can't be received.
        socket.arrive(part(b"a", true), &session);
        assert_eq!(sent(&mut outgoing), [Message::SocketCredit(SocketCredit { id: ID, bytes: 65 })]);
    }

    #[test]
    fn large_messages_that_nobody_receives_use_up_the_credit() {
        let (socket, session, mut outgoing) = socket();
        socket.arrive(part(b"first", false), &session);
        for _ in 0..4 {
            socket.arrive(part(&[0; PART_SIZE], true), &session);
        }
        assert_eq!(sent(&mut outgoing), []);
        assert!(matches!(socket.take(ID, &session), Next::Message(_)));
        let bytes = u32::try_from(4 * (PART_SIZE + PART_COST) + 5 + PART_COST).unwrap();
        assert_eq!(sent(&mut outgoing), [Message::SocketCredit(SocketCredit { id: ID, bytes })]);
    }

    #[test]
    fn a_large_message_waits_for_credit_and_the_close_for_the_message() {
        let (socket, session, mut outgoing) = socket();
        socket.send(ID, Bytes::from(vec![1; 1 << 20]), false, &session).unwrap();
        assert!(socket.close(ID, 1000, String::new(), &session));
        assert!(!socket.close(ID, 1000, String::new(), &session));
        assert!(!socket.is_flushed());
        let mut size = 0;
        for _ in 0..100 {
            for message in sent(&mut outgoing) {
                match message {
                    Message::SocketMessage(part) => {
                        size += part.payload.len();
                        assert_eq!(part.more, size < 1 << 20);
                        socket.add_credit(u32::try_from(part.payload.len() + PART_COST).unwrap(), &session);
                    }
                    Message::SocketClose(close) => {
                        assert_eq!((close.code, size), (1000, 1 << 20));
                        return assert!(socket.is_flushed());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("it wasn't closed");
    }

    #[test]
    fn an_end_from_outside_is_told_once_to_both_sides() {
        let (socket, session, mut outgoing) = socket();
        socket.end(ID, 1012, "restart", &session);
        socket.end(ID, 1012, "restart", &session);
        assert_eq!(sent(&mut outgoing).len(), 1);
        assert!(matches!(socket.take(ID, &session), Next::Closed(Closed { code: 1012, .. })));
    }
}
