//! The stream of a response's body to frontd, which ends either normally or with an error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::runner::ExchangeResponse;
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::Status;

use super::active::{ActiveRequest, ChunkSender};

/// The number of chunks that may wait for frontd.
const CHUNKS_AHEAD: usize = 4;

/// The response stream of an `Exchange` call. If it is dropped before its end, nobody reads it any more.
#[derive(Debug)]
pub(crate) struct Chunks {
    outgoing: mpsc::Receiver<ExchangeResponse>,
    active: Arc<ActiveRequest>,
    ended: bool,
}

impl Chunks {
    /// Returns the sender and the stream of the body of `active`.
    pub(crate) fn new(active: Arc<ActiveRequest>) -> (ChunkSender, Self) {
        let (chunks, outgoing) = mpsc::channel(CHUNKS_AHEAD);
        (chunks, Self { outgoing, active, ended: false })
    }
}

impl Stream for Chunks {
    type Item = Result<ExchangeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.outgoing.poll_recv(cx) {
            // Chunks that were sent before the cut come first.
            Poll::Ready(Some(chunk)) => return Poll::Ready(Some(Ok(chunk))),
            Poll::Ready(None) => {}
            Poll::Pending if self.active.poll_cut(cx).is_pending() => return Poll::Pending,
            Poll::Pending => {}
        }
        self.ended = true;
        Poll::Ready(self.active.why_cut().map(|why| Err(Status::aborted(why))))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // A call that was replaced by another has no sender.
        if !self.ended && self.outgoing.sender_strong_count() > 0 {
            self.active.lose_call();
        }
    }
}

#[cfg(test)]
mod tests {
    use api::runner::Request;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, poll};

    use super::*;
    use crate::link::session::Session;

    fn active() -> Arc<ActiveRequest> {
        let (session, _outgoing) = Session::new(1, 0);
        Arc::new(ActiveRequest::new(Request { id: 7, ..Request::default() }, Arc::new(session)))
    }

    fn chunk(text: &'static str) -> ExchangeResponse {
        ExchangeResponse { chunk: Bytes::from_static(text.as_bytes()), trailers: Vec::new() }
    }

    async fn rest(chunks: Chunks) -> Vec<Result<Bytes, String>> {
        let chunks = chunks.map(|it| it.map(|it| it.chunk).map_err(|it| it.message().to_owned()));
        chunks.collect().await
    }

    #[tokio::test]
    async fn a_body_ends_normally_or_is_cut_after_its_last_chunk() {
        let active = active();
        let (sender, chunks) = Chunks::new(Arc::clone(&active));
        sender.send(chunk("one")).await.unwrap();
        drop(sender);
        assert_eq!(rest(chunks).await, [Ok(Bytes::from_static(b"one"))]);

        let (sender, mut chunks) = Chunks::new(Arc::clone(&active));
        assert!(poll!(chunks.next()).is_pending());
        sender.send(chunk("one")).await.unwrap();
        active.cut("the app failed");
        // The sender may belong to a thread that never returns.
        let expected = [Ok(Bytes::from_static(b"one")), Err("the app failed".to_owned())];
        assert_eq!(rest(chunks).await, expected);
        drop(sender);
        assert!(!active.is_gone(), "a cut doesn't mean that the client has disconnected");
    }
}
