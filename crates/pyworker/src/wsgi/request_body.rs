//! What has been read of the body of one request, and where the next byte is.

use api::runner::Request;
use bytes::Bytes;

use crate::body::{ReadError, Upload};
use crate::exchange::Exchange;

/// How far ahead of what was fetched a byte may be for all before it to be fetched and dropped. What is farther is asked
/// for anew.
const SKIP_LIMIT: u64 = 256 << 10;

/// The body of one request.
#[derive(Debug)]
pub(super) struct RequestBody {
    length: u64,
    position: u64,
    /// A part of the body, which begins at `start`.
    at_hand: Bytes,
    start: u64,
    /// None where all of the body is at hand.
    upload: Option<Upload>,
}

/// Where a read ends before its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end of the body only.
    Never,
    /// After a line's end.
    LineEnd,
    /// With what is at hand.
    Piece,
}

impl RequestBody {
    /// That of a request which has just begun.
    pub(super) fn of(request: &Request) -> Self {
        let at_hand = request.body.clone();
        let (length, upload) = match request.body_length {
            0 => (at_hand.len() as u64, None),
            length => (length, Some(Upload::new(length))),
        };
        Self { length, position: 0, at_hand, start: 0, upload }
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where the next byte is read from. It may be beyond the end.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether all of it can be read again: frontd sends it anew until the response begins.
    pub(super) fn can_go_back(&self, exchange: &Exchange) -> bool {
        self.upload.is_none() || (exchange.session.sends_bodies_again() && exchange.deadline.is_running())
    }

    /// Goes on at `position`; tells whether that can be done.
    pub(super) fn seek(&mut self, position: u64, exchange: &Exchange) -> bool {
        let goes_forward = position >= self.start;
        if !goes_forward && !self.can_go_back(exchange) {
            return false;
        }
        self.position = position;
        true
    }

    /// Lets go of all memory.
    pub(super) fn forget(&mut self) {
        (self.at_hand, self.upload, self.length) = (Bytes::new(), None, 0);
    }

    /// Up to `limit` bytes from the position on, if all of them are at hand.
    pub(super) fn take_at_hand(&mut self, limit: usize, stop: Stop) -> Option<Bytes> {
        let found = self.find(limit, stop);
        let is_all = found.is_whole || self.position.saturating_add(found.piece.len() as u64) >= self.length;
        is_all.then(|| self.pass(found.piece))
    }

    /// Up to `limit` bytes from the position on.
    pub(super) async fn take(
        &mut self,
        limit: usize,
        stop: Stop,
        exchange: &Exchange,
    ) -> Result<Bytes, ReadError> {
        if let Some(taken) = self.take_at_hand(limit, stop) {
            return Ok(taken);
        }
        let mut taken = Vec::new();
        loop {
            let found = self.find(limit - taken.len(), stop);
            let is_whole = found.is_whole;
            taken.extend_from_slice(&self.pass(found.piece));
            if is_whole || !self.fetch(exchange).await? {
                return Ok(taken.into());
            }
        }
    }

    /// What is at hand from the position on, up to `limit` and as far as `stop` says.
    fn find(&self, limit: usize, stop: Stop) -> Found {
        let begin = self.position.checked_sub(self.start).and_then(|it| usize::try_from(it).ok());
        let begin = begin.filter(|it| *it <= self.at_hand.len());
        let rest = begin.map_or_else(Bytes::new, |it| self.at_hand.slice(it..));
        let rest = rest.slice(..rest.len().min(limit));
        let end = match stop {
            Stop::Never => None,
            Stop::LineEnd => memchr::memchr(b'\n', &rest).map(|at| at + 1),
            Stop::Piece => Some(rest.len()).filter(|it| *it > 0),
        };
        let piece = rest.slice(..end.unwrap_or(rest.len()));
        Found { is_whole: end.is_some() || piece.len() == limit, piece }
    }

    fn pass(&mut self, piece: Bytes) -> Bytes {
        self.position += piece.len() as u64;
        piece
    }

    /// Has the bytes at the position at hand; tells whether there are any.
    async fn fetch(&mut self, exchange: &Exchange) -> Result<bool, ReadError> {
        let Some(upload) = &mut self.upload else { return Ok(false) };
        if self.position >= self.length {
            return Ok(false);
        }
        let is_near = (upload.position()..upload.position() + SKIP_LIMIT).contains(&self.position);
        if !is_near && exchange.session.sends_bodies_again() && exchange.deadline.is_running() {
            upload.seek(self.position);
        }
        if self.position < upload.position() {
            return Err(ReadError::NoWayBack);
        }
        loop {
            self.start = upload.position();
            self.at_hand = Bytes::new();
            let Some(more) = upload.next(exchange).await? else { return Ok(false) };
            self.at_hand = more;
            if self.position < upload.position() {
                return Ok(true);
            }
        }
    }
}

struct Found {
    piece: Bytes,
    is_whole: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::Session;

    fn body(text: &'static str) -> (RequestBody, Exchange) {
        let (session, _outgoing) = Session::new(1, 0);
        let request = Request { id: 7, body: Bytes::from_static(text.as_bytes()), ..Request::default() };
        (RequestBody::of(&request), Exchange::new(request, Arc::new(session)))
    }

    #[test]
    fn what_is_at_hand_is_read_without_waiting() {
        let (mut body, exchange) = body("one\ntwo\nlast");
        let mut take = |limit, stop| body.take_at_hand(limit, stop).unwrap();
        assert_eq!(take(2, Stop::Never), "on");
        assert_eq!(take(usize::MAX, Stop::LineEnd), "e\n");
        assert_eq!(take(2, Stop::LineEnd), "tw");
        assert_eq!(take(0, Stop::Never), "");
        assert_eq!(take(usize::MAX, Stop::Piece), "o\nlast");
        assert_eq!((take(9, Stop::Never), take(9, Stop::Piece)), (Bytes::new(), Bytes::new()));
        assert!(body.can_go_back(&exchange) && body.seek(8, &exchange));
        assert_eq!(body.take_at_hand(usize::MAX, Stop::Never).unwrap(), "last");
        assert!(body.seek(u64::MAX, &exchange));
        assert_eq!(body.take_at_hand(usize::MAX, Stop::Never).unwrap(), "");
        assert_eq!(body.position(), u64::MAX);
    }
}
