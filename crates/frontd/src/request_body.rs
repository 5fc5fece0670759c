//! A client's request body, which has to keep coming.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// Between two reads of a client's body, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// For a client to see the answer and stop sending, at most.
const LINGER: Duration = Duration::from_secs(30);

/// Bytes that are read meanwhile, at most.
const LINGER_BYTES: usize = 32 << 20;

/// A body that fails when the client sends nothing for too long.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    /// Made with the first wait: most bodies are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error("the client sent nothing of it for {} seconds", PATIENCE.as_secs())]
    Stalled,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, deadline: None }
    }

    /// Reads and forgets what is left, for a while: over HTTP/1.1, a connection that is closed on a client which is
    /// still sending is reset, and the client may never see the answer; over HTTP/2 many clients take the reset of the
    /// stream for an error, though it says that there is none.
    pub(crate) async fn linger(mut self) {
        let rest = async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = self.frame().await {
                let read = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(read) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        let _client_sends_on = tokio::time::timeout(LINGER, rest).await;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            if let Some(deadline) = &mut self.deadline {
                deadline.as_mut().reset(Instant::now() + PATIENCE);
            }
            return Poll::Ready(frame.map(|it| Ok(it?)));
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(RequestBodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
