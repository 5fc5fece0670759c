//! The bodies of one exchange that come and go over a call of their own, chunk by chunk.

use api::runner::exchange_request::Message;
use api::runner::serve_response;
use api::runner::{ExchangeRequest, ExchangeResponse, NeedBody};
use bytes::Bytes;
use parking_lot::Mutex;
use tonic::Streaming;

use crate::exchange::{ChunkSender, ClientGone, Exchange};

/// The most that one message of a response's body carries.
pub(crate) const CHUNK_SIZE: usize = 64 << 10;

/// Why the rest of a request's body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// The client has left.
    #[error("read the request body: {0}")]
    Gone(#[from] ClientGone),
    /// The body ended before its length.
    #[error("read the request body: it was cut with {0} bytes missing")]
    Cut(u64),
    /// The response has begun since it was asked whether to go back.
    #[error("read the request body: a large body cannot go back once the response has begun")]
    NoWayBack,
}

/// A request's body, asked for when the app first reads it, and taken in no faster than the app reads.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Never locked: it makes the stream shareable, as a Python object must be.
    incoming: Option<Mutex<Box<Streaming<ExchangeRequest>>>>,
    length: u64,
    /// Where in the body the next bytes are from.
    position: u64,
}

impl Upload {
    /// A body of that many bytes.
    pub(crate) fn new(length: u64) -> Self {
        Self { incoming: None, length, position: 0 }
    }

    /// Where in the body the next bytes are from.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at `position` of the body. What frontd has sent already of the rest is dropped.
    pub(crate) fn seek(&mut self, position: u64) {
        if position != self.position {
            (self.position, self.incoming) = (position, None);
        }
    }

    /// The next bytes, which are never empty; `None` at the end of the body.
    pub(crate) async fn next(&mut self, exchange: &Exchange) -> Result<Option<Bytes>, ReadError> {
        while self.position < self.length {
            // All of it may be at hand still.
            if exchange.is_gone() {
                return Err(ClientGone.into());
            }
            let left = self.length - self.position;
            let _waits = exchange.deadline.wait_for_client();
            let stream = self.stream(exchange).await?;
            let message = exchange.unless_gone(stream.message()).await?;
            let Some(ExchangeRequest { message: Some(Message::Chunk(mut chunk)) }) = message.ok().flatten()
            else {
                return Err(ReadError::Cut(left));
            };
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.position += chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    async fn stream(&mut self, exchange: &Exchange) -> Result<&mut Streaming<ExchangeRequest>, ClientGone> {
        let incoming = match self.incoming.take() {
            Some(incoming) => incoming,
            None => {
                exchange.expect_call();
                let need = NeedBody { id: exchange.id, offset: self.position };
                exchange.session.send(serve_response::Message::NeedBody(need));
                Mutex::new(exchange.incoming().await?)
            }
        };
        Ok(self.incoming.insert(incoming).get_mut())
    }
}

/// A response's body on its way, never longer than its `Content-Length`.
#[derive(Debug)]
pub(crate) struct Download {
    outgoing: ChunkSender,
    budget: Budget,
}

impl Download {
    /// Waits for the call that carries the body.
    pub(crate) async fn open(exchange: &Exchange, content_length: Option<u64>) -> Result<Self, ClientGone> {
        Ok(Self { outgoing: exchange.outgoing().await?, budget: Budget::new(content_length) })
    }

    /// Sends one piece of the body, as soon as there is room for it on the way. Tells what did not fit into
    /// the `Content-Length`.
    pub(crate) async fn send(
        &mut self,
        exchange: &Exchange,
        mut piece: Bytes,
    ) -> Result<Overrun, ClientGone> {
        let overrun = self.budget.spend(&mut piece);
        while !piece.is_empty() {
            let chunk = piece.split_to(piece.len().min(CHUNK_SIZE));
            let _waits = exchange.deadline.wait_for_client();
            let sent = self.outgoing.send(ExchangeResponse { chunk });
            if exchange.unless_gone(sent).await?.is_err() {
                exchange.cancel();
                return Err(ClientGone);
            }
        }
        // The piece leaves now, not with the next one: the app may take its time for that.
        tokio::task::yield_now().await;
        Ok(overrun)
    }

    /// The body is whole; an error if it is not.
    pub(crate) fn finish(self, exchange: &Exchange) -> Result<(), Shortfall> {
        match self.budget.shortfall() {
            None => Ok(()),
            Some(shortfall) => {
                exchange.cut("the app sent less than its Content-Length");
                Err(shortfall)
            }
        }
    }
}

/// What is left of a `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget(Option<u64>);

/// Bytes beyond the `Content-Length`, which are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun(pub(crate) usize);

/// Bytes that the `Content-Length` promises and that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body of the response is {0} bytes shorter than its Content-Length")]
pub(crate) struct Shortfall(u64);

impl Budget {
    /// Without a length anything goes.
    pub(crate) fn new(content_length: Option<u64>) -> Self {
        Self(content_length)
    }

    /// Cuts `piece` to what is left.
    pub(crate) fn spend(&mut self, piece: &mut Bytes) -> Overrun {
        let Some(left) = &mut self.0 else { return Overrun(0) };
        let beyond = piece.len().saturating_sub(usize::try_from(*left).unwrap_or(usize::MAX));
        piece.truncate(piece.len() - beyond);
        *left -= piece.len() as u64;
        Overrun(beyond)
    }

    /// What is missing.
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
