//! Tracks what has been read of a request's body, and the current offset.

use api::runner::Request;
use bytes::Bytes;

use crate::link::active::ActiveRequest;
use crate::link::body::{ReadError, Upload};

/// When seeking forward by at most this many bytes, the bytes in between are fetched and dropped. Otherwise,
/// the body is requested again from there.
const SKIP_LIMIT: u64 = 256 << 10;

/// How much memory a read reserves for bytes that have yet to arrive. A client may announce a body that it never sends.
const RESERVE_LIMIT: usize = 1 << 20;

/// The body of one request.
#[derive(Debug)]
pub(super) struct RequestBody {
    length: u64,
    position: u64,
    /// The part of the body that is in memory. It starts at offset `start`.
    at_hand: Bytes,
    start: u64,
    /// None if the whole body is in memory.
    upload: Option<Upload>,
}

/// Where a read ends before its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Only at the end of the body.
    Never,
    /// At the end of a line.
    LineEnd,
    /// With the bytes in memory.
    Piece,
}

impl RequestBody {
    /// The body of a request that has just started.
    pub(super) fn of(request: &Request) -> Self {
        let at_hand = request.body.clone();
        let (length, upload) = match request.body_length {
            0 => (at_hand.len() as u64, None),
            length => (length, Some(Upload::new(length))),
        };
        Self { length, position: 0, at_hand, start: 0, upload }
    }

    /// The length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The current offset. It may be beyond the end.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the body can be read again: frontd resends it until the response starts.
    pub(super) fn can_go_back(&self, active: &ActiveRequest) -> bool {
        self.upload.is_none() || (active.session.resends_bodies() && active.deadline.is_running())
    }

    /// Continues at `position`. Returns false if that isn't possible.
    pub(super) fn seek(&mut self, position: u64, active: &ActiveRequest) -> bool {
        let goes_forward = position >= self.start;
        if !goes_forward && !self.can_go_back(active) {
            return false;
        }
        self.position = position;
        true
    }

    /// Frees all memory.
    pub(super) fn forget(&mut self) {
        (self.at_hand, self.upload, self.length) = (Bytes::new(), None, 0);
    }

    /// Returns up to `limit` bytes, if all of them are in memory.
    pub(super) fn take_at_hand(&mut self, limit: usize, stop: Stop) -> Option<Bytes> {
        let found = self.find(limit, stop);
        let is_all = found.is_whole || self.position.saturating_add(found.piece.len() as u64) >= self.length;
        is_all.then(|| self.pass(found.piece))
    }

    /// Returns up to `limit` bytes.
    pub(super) async fn take(
        &mut self,
        limit: usize,
        stop: Stop,
        active: &ActiveRequest,
    ) -> Result<Bytes, ReadError> {
        if let Some(taken) = self.take_at_hand(limit, stop) {
            return Ok(taken);
        }
        let mut taken = Vec::with_capacity(self.expected(limit, stop));
        loop {
            let found = self.find(limit - taken.len(), stop);
            let is_whole = found.is_whole;
            taken.extend_from_slice(&self.pass(found.piece));
            if is_whole || !self.fetch(active).await? {
                return Ok(taken.into());
            }
        }
    }

    /// How many bytes a read will probably return, as far as it's sensible to reserve room for them before they arrive.
    fn expected(&self, limit: usize, stop: Stop) -> usize {
        match stop {
            Stop::Never => {
                let rest = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
                rest.min(limit).min(RESERVE_LIMIT)
            }
            Stop::LineEnd | Stop::Piece => 0,
        }
    }

    /// Finds the bytes in memory at the current offset, limited by `limit` and `stop`.
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

    /// Fetches the bytes at the current offset. Returns false at the end of the body.
    async fn fetch(&mut self, active: &ActiveRequest) -> Result<bool, ReadError> {
        let Some(upload) = &mut self.upload else { return Ok(false) };
        if self.position >= self.length {
            return Ok(false);
        }
        let is_near = (upload.position()..upload.position() + SKIP_LIMIT).contains(&self.position);
        if !is_near && active.session.resends_bodies() && active.deadline.is_running() {
            upload.seek(self.position);
        }
        if self.position < upload.position() {
            return Err(ReadError::NoWayBack);
        }
        loop {
            self.start = upload.position();
            self.at_hand = Bytes::new();
            let Some(more) = upload.next(active).await? else { return Ok(false) };
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
    use crate::link::session::Session;

    fn body(text: &'static str) -> (RequestBody, ActiveRequest) {
        let (session, _outgoing) = Session::new(1, 0);
        let request = Request { id: 7, body: Bytes::from_static(text.as_bytes()), ..Request::default() };
        (RequestBody::of(&request), ActiveRequest::new(request, Arc::new(session)))
    }

    #[test]
    fn bytes_in_memory_are_read_without_waiting() {
        let (mut body, active) = body("one\ntwo\nlast");
        let mut take = |limit, stop| body.take_at_hand(limit, stop).unwrap();
        assert_eq!(take(2, Stop::Never), "on");
        assert_eq!(take(usize::MAX, Stop::LineEnd), "e\n");
        assert_eq!(take(2, Stop::LineEnd), "tw");
        assert_eq!(take(0, Stop::Never), "");
        assert_eq!(take(usize::MAX, Stop::Piece), "o\nlast");
        assert_eq!((take(9, Stop::Never), take(9, Stop::Piece)), (Bytes::new(), Bytes::new()));
        assert!(body.can_go_back(&active) && body.seek(8, &active));
        assert_eq!(body.take_at_hand(usize::MAX, Stop::Never).unwrap(), "last");
        assert!(body.seek(u64::MAX, &active));
        assert_eq!(body.take_at_hand(usize::MAX, Stop::Never).unwrap(), "");
        assert_eq!(body.position(), u64::MAX);
    }
}
