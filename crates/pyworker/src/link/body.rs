//! Request and response bodies that are sent over a call of their own, chunk by chunk.

use api::runner::exchange_request::Message;
use api::runner::serve_response;
use api::runner::{ExchangeRequest, ExchangeResponse, Header, NeedBody};
use bytes::Bytes;
use parking_lot::Mutex;
use tonic::Streaming;

use super::active::{ActiveRequest, ChunkSender, Disconnected};

/// The largest body that is sent inline with its head, in bytes.
pub(crate) const INLINE_LIMIT: usize = 256 << 10;

/// The largest chunk of a response's body in one message, in bytes.
pub(crate) const CHUNK_SIZE: usize = 64 << 10;

/// Why the rest of a request's body can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// The client has disconnected.
    #[error("read the request body: {0}")]
    Gone(#[from] Disconnected),
    /// The body ended before its announced length.
    #[error("read the request body: it was cut off with {0} bytes missing")]
    Cut(u64),
    /// The app wants to seek back, but the response has started.
    #[error("read the request body: a large body can't seek back after the response has begun")]
    NoWayBack,
}

/// A request's body. It is requested when the app first reads it, and received no faster than the app reads.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Never locked. It makes the stream `Sync`, as Python objects have to be.
    incoming: Option<Mutex<Box<Streaming<ExchangeRequest>>>>,
    /// None if only the end of the stream tells it.
    length: Option<u64>,
    /// The offset of the next bytes in the body.
    position: u64,
    /// A call that was opened for the response carries the rest of the body, too.
    follows_response: bool,
    /// frontd was asked for it.
    is_asked: bool,
}

impl Upload {
    /// A body of `length` bytes.
    pub(crate) fn new(length: u64) -> Self {
        Self { incoming: None, length: Some(length), position: 0, follows_response: false, is_asked: false }
    }

    /// The rest of a body after its first `position` bytes. The response may begin before it is read.
    pub(crate) fn rest(position: u64, length: Option<u64>) -> Self {
        Self { incoming: None, length, position, follows_response: true, is_asked: false }
    }

    /// Asks frontd for the body, before a response begins: afterwards, it's too late.
    pub(crate) fn ask(&mut self, active: &ActiveRequest) {
        if !std::mem::replace(&mut self.is_asked, true) && !active.has_call() {
            let need = NeedBody { id: active.id, offset: self.position };
            active.session.send(serve_response::Message::NeedBody(need));
        }
    }

    /// Whether everything was received. Not known before the end of the stream if that alone tells the length.
    pub(crate) fn is_complete(&self) -> bool {
        self.length.is_some_and(|it| self.position >= it)
    }

    /// The offset of the next bytes in the body.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Continues at `position`. What frontd has already sent of the rest is dropped.
    pub(crate) fn seek(&mut self, position: u64) {
        if position != self.position {
            (self.position, self.incoming) = (position, None);
        }
    }

    /// Returns the next bytes, never an empty chunk. `None` at the end of the body.
    pub(crate) async fn next(&mut self, active: &ActiveRequest) -> Result<Option<Bytes>, ReadError> {
        while !self.is_complete() {
            // The rest may already have arrived before the client disconnected.
            if active.is_gone() {
                return Err(Disconnected.into());
            }
            let left = self.length.map(|it| it - self.position);
            let _waits = active.deadline.wait_for_client();
            let stream = self.stream(active).await?;
            let message = active.unless_gone(stream.message()).await?;
            if left.is_none() && matches!(message, Ok(None)) {
                self.length = Some(self.position);
                break;
            }
            let Some(ExchangeRequest { message: Some(Message::Chunk(mut chunk)) }) = message.ok().flatten()
            else {
                return Err(ReadError::Cut(left.unwrap_or(1)));
            };
            chunk.truncate(left.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX));
            self.position += chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    async fn stream(
        &mut self,
        active: &ActiveRequest,
    ) -> Result<&mut Streaming<ExchangeRequest>, Disconnected> {
        let incoming = match self.incoming.take() {
            Some(incoming) => incoming,
            None if self.follows_response
                && let Some(incoming) = active.take_incoming() =>
            {
                Mutex::new(incoming)
            }
            None => {
                if !self.follows_response {
                    active.expect_call();
                    self.is_asked = false;
                }
                self.ask(active);
                Mutex::new(active.incoming().await?)
            }
        };
        Ok(self.incoming.insert(incoming).get_mut())
    }
}

/// A response's body, limited to its `Content-Length`.
#[derive(Debug)]
pub(crate) struct Download {
    outgoing: ChunkSender,
    budget: Budget,
}

impl Download {
    /// Waits for the call that carries the body.
    pub(crate) async fn open(
        active: &ActiveRequest,
        content_length: Option<u64>,
    ) -> Result<Self, Disconnected> {
        Ok(Self { outgoing: active.outgoing().await?, budget: Budget::new(content_length) })
    }

    /// Sends one chunk of the body as soon as there is room. Returns how much of it exceeded the
    /// `Content-Length`.
    pub(crate) async fn send(
        &mut self,
        active: &ActiveRequest,
        mut piece: Bytes,
    ) -> Result<Overrun, Disconnected> {
        let overrun = self.budget.spend(&mut piece);
        while !piece.is_empty() {
            let chunk = piece.split_to(piece.len().min(CHUNK_SIZE));
            let _waits = active.deadline.wait_for_client();
            let sent = self.outgoing.send(ExchangeResponse { chunk, trailers: Vec::new() });
            if active.unless_gone(sent).await?.is_err() {
                active.cancel();
                return Err(Disconnected);
            }
        }
        // Yield, so that this chunk is sent now: the app may take its time for the next one.
        tokio::task::yield_now().await;
        Ok(overrun)
    }

    /// Sends what follows the body. Nothing can be sent after it.
    pub(crate) async fn send_trailers(
        self,
        active: &ActiveRequest,
        trailers: Vec<Header>,
    ) -> Result<(), Disconnected> {
        let sent = self.outgoing.send(ExchangeResponse { chunk: Bytes::new(), trailers });
        active.unless_gone(sent).await?.map_err(|_| Disconnected)
    }

    /// Ends the body. Returns an error if it is incomplete.
    pub(crate) fn finish(self, active: &ActiveRequest) -> Result<(), Shortfall> {
        match self.budget.shortfall() {
            None => Ok(()),
            Some(shortfall) => {
                active.cut("the app sent less than its Content-Length");
                Err(shortfall)
            }
        }
    }
}

/// The rest of a `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget(Option<u64>);

/// Bytes that exceed the `Content-Length`, and aren't sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun(pub(crate) usize);

/// Bytes that the `Content-Length` promises, but that were never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body of the response is {0} bytes shorter than its Content-Length")]
pub(crate) struct Shortfall(u64);

impl Budget {
    /// Without a length, the body is unlimited.
    pub(crate) fn new(content_length: Option<u64>) -> Self {
        Self(content_length)
    }

    /// Truncates `piece` to what is left.
    pub(crate) fn spend(&mut self, piece: &mut Bytes) -> Overrun {
        let Some(left) = &mut self.0 else { return Overrun(0) };
        let beyond = piece.len().saturating_sub(usize::try_from(*left).unwrap_or(usize::MAX));
        piece.truncate(piece.len() - beyond);
        *left -= piece.len() as u64;
        Overrun(beyond)
    }

    /// Returns how much is missing.
    pub(crate) fn shortfall(self) -> Option<Shortfall> {
        self.0.filter(|left| *left > 0).map(Shortfall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_never_exceeds_its_content_length() {
        for (length, pieces, sent, beyond, short) in [
            (None, &["ab", "cd"][..], "abcd", 0, None),
            (Some(4), &["ab", "cd"], "abcd", 0, None),
            (Some(3), &["ab", "cd", "ef"], "abc", 3, None),
            (Some(9), &["ab"], "ab", 0, Some(Shortfall(7))),
            (Some(0), &["ab"], "", 2, None),
            (Some(0), &[], "", 0, None),
        ] {
            let mut budget = Budget::new(length);
            let (mut out, mut over) = (Vec::new(), 0);
            for piece in pieces {
                let mut piece = Bytes::from_static(piece.as_bytes());
                over += budget.spend(&mut piece).0;
                out.extend_from_slice(&piece);
            }
            assert_eq!(
                (&*out, over, budget.shortfall()),
                (sent.as_bytes(), beyond, short),
                "{length:?} {pieces:?}"
            );
        }
    }
}
