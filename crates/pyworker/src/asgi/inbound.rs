//! What of a request's body has arrived, and what of that the app has received.

use std::collections::VecDeque;

use api::runner::Request;
use bytes::Bytes;

use crate::link::body::{ReadError, Upload};

/// How many bytes may wait for the app. The rest waits at frontd.
const LIMIT: usize = 256 << 10;

/// The body of one request.
#[derive(Debug)]
pub(super) struct Inbound {
    chunks: VecDeque<Bytes>,
    size: usize,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// The app hasn't asked for it. It is received with this.
    Unwanted(Box<Upload>),
    /// It is arriving.
    Arriving,
    /// Everything is in `chunks`.
    Here,
    /// The app has received the last chunk.
    Received,
    /// It was cut off.
    Broken,
}

/// What the app receives next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Chunk {
        body: Bytes,
        more: bool,
    },
    /// It hasn't arrived.
    Later,
    /// The whole body was received.
    Everything,
    /// The rest never arrives.
    Broken,
}

impl Inbound {
    /// The body of a request that starts.
    pub(super) fn of(request: &Request) -> Self {
        let body = request.body.clone();
        let position = body.len() as u64;
        let length = match request.body_length {
            0 if request.streams_body => None,
            0 => Some(position),
            length => Some(length),
        };
        let upload = Upload::rest(position, length);
        let rest = if upload.is_complete() { Rest::Here } else { Rest::Unwanted(Box::new(upload)) };
        let size = body.len();
        let is_to_receive = size > 0 || matches!(rest, Rest::Here);
        Self { chunks: is_to_receive.then_some(body).into_iter().collect(), size, rest }
    }

    /// Takes what the app receives next.
    pub(super) fn receive(&mut self) -> Received {
        if let Some(body) = self.chunks.pop_front() {
            self.size -= body.len();
            let is_last = self.chunks.is_empty() && matches!(self.rest, Rest::Here);
            if is_last {
                self.rest = Rest::Received;
            }
            return Received::Chunk { body, more: !is_last };
        }
        match self.rest {
            Rest::Unwanted(_) | Rest::Arriving => Received::Later,
            Rest::Here => {
                self.rest = Rest::Received;
                Received::Chunk { body: Bytes::new(), more: false }
            }
            Rest::Received => Received::Everything,
            Rest::Broken => Received::Broken,
        }
    }

    /// The app wants the rest. Returns what to receive it with, the first time.
    pub(super) fn want(&mut self) -> Option<Box<Upload>> {
        match std::mem::replace(&mut self.rest, Rest::Arriving) {
            Rest::Unwanted(upload) => Some(upload),
            other => {
                self.rest = other;
                None
            }
        }
    }

    /// A chunk has arrived, or the end of the body. `is_complete` if nothing follows.
    pub(super) fn arrive(&mut self, arrived: Result<Option<Bytes>, ReadError>, is_complete: bool) {
        match arrived {
            Ok(Some(chunk)) => {
                self.size += chunk.len();
                self.chunks.push_back(chunk);
                if is_complete {
                    self.rest = Rest::Here;
                }
            }
            Ok(None) => self.rest = Rest::Here,
            Err(_) => self.rest = Rest::Broken,
        }
    }

    /// Whether more may arrive before the app receives something.
    pub(super) fn has_room(&self) -> bool {
        self.size < LIMIT
    }

    /// Whether `receive` would return something of the body, or that it is broken.
    pub(super) fn is_ready(&self) -> bool {
        !self.chunks.is_empty() || matches!(self.rest, Rest::Here | Rest::Broken)
    }

    /// The app has ended. Frees all memory.
    pub(super) fn forget(&mut self) {
        (self.chunks, self.size, self.rest) = (VecDeque::new(), 0, Rest::Broken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::active::Disconnected;

    fn chunk(body: &'static str, more: bool) -> Received {
        Received::Chunk { body: Bytes::from_static(body.as_bytes()), more }
    }

    fn request(body: &'static str, body_length: u64, streams_body: bool) -> Request {
        Request { body: Bytes::from_static(body.as_bytes()), body_length, streams_body, ..Request::default() }
    }

    #[test]
    fn an_inline_body_is_one_chunk_even_if_it_is_empty() {
        for body in ["", "abc"] {
            let mut inbound = Inbound::of(&request(body, 0, false));
            assert!(inbound.is_ready() && inbound.want().is_none());
            assert_eq!(inbound.receive(), chunk(body, false));
            assert_eq!(inbound.receive(), Received::Everything);
        }
        let mut inbound = Inbound::of(&request("abc", 3, true));
        assert_eq!(inbound.receive(), chunk("abc", false));
    }

    #[test]
    fn a_body_arrives_in_chunks_and_ends_with_its_length_or_its_stream() {
        let mut inbound = Inbound::of(&request("ab", 4, true));
        assert_eq!(inbound.receive(), chunk("ab", true));
        assert_eq!(inbound.receive(), Received::Later);
        assert!(inbound.want().is_some() && inbound.want().is_none());
        inbound.arrive(Ok(Some(Bytes::from_static(b"cd"))), true);
        assert_eq!(inbound.receive(), chunk("cd", false));

        let mut inbound = Inbound::of(&request("", 0, true));
        assert_eq!(inbound.receive(), Received::Later);
        assert!(inbound.want().is_some());
        inbound.arrive(Ok(Some(Bytes::from_static(b"cd"))), false);
        inbound.arrive(Ok(None), true);
        assert_eq!(inbound.receive(), chunk("cd", false));
        assert_eq!(inbound.receive(), Received::Everything);
    }

    #[test]
    fn what_has_arrived_is_received_before_a_cut_and_memory_is_bounded() {
        let mut inbound = Inbound::of(&request("", 1 << 20, false));
        assert!(inbound.want().is_some());
        inbound.arrive(Ok(Some(Bytes::from(vec![0; LIMIT]))), false);
        assert!(!inbound.has_room());
        inbound.arrive(Err(Disconnected.into()), false);
        assert!(matches!(inbound.receive(), Received::Chunk { more: true, .. }));
        assert_eq!(inbound.receive(), Received::Broken);
        assert!(inbound.has_room());
    }
}
