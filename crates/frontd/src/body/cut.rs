//! Aborts a response whose body fails, after the client has received what came before.
//!
//! When a body returns an error, hyper drops what it hasn't written yet, so the last chunks of a failing app
//! would be lost. That's why the error is delayed. Over HTTP/1.1, the connection ends with its next flush,
//! when all data is with the kernel. Over HTTP/2, the stream is reset once all its chunks are in frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use super::waiting;

/// How a response is aborted.
#[derive(Debug)]
pub(crate) enum Cutter {
    /// HTTP/1.1: by closing the connection.
    Connection(ConnectionCut),
    /// HTTP/2: by resetting the stream.
    Stream(Arc<Unsent>),
}

impl Cutter {
    /// A cutter for an HTTP/2 response.
    pub(crate) fn stream() -> Self {
        Self::Stream(Arc::default())
    }
}

/// Asks a connection to end once it has written all its data.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCut(Arc<AtomicBool>);

impl ConnectionCut {
    /// Whether the connection is to end with its next flush.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns whether it was requested before.
    fn request(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }
}

/// The chunks of a response that aren't in HTTP/2 frames yet.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    pieces: AtomicUsize,
    none_left: AtomicWaker,
}

impl Unsent {
    /// Wraps a chunk so that it counts until it is dropped.
    fn counted(self: &Arc<Self>, piece: Bytes) -> Bytes {
        self.pieces.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Counted { piece, unsent: Arc::clone(self) })
    }

    fn poll_none_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.none_left.register(cx.waker());
        if self.pieces.load(Ordering::SeqCst) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Counted {
    piece: Bytes,
    unsent: Arc<Unsent>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.unsent.pieces.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.unsent.none_left.wake();
        }
    }
}

/// A body that delays its error until all its data is on its way.
#[derive(Debug)]
pub(crate) struct DelayedError<B> {
    body: B,
    cutter: Cutter,
    error: Option<io::Error>,
}

impl<B> DelayedError<B> {
    pub(crate) fn new(body: B, cutter: Cutter) -> Self {
        Self { body, cutter, error: None }
    }

    /// Whether the body failed and its data isn't on its way yet.
    pub(crate) fn is_cut(&self) -> bool {
        self.error.is_some()
    }
}

impl<B> Body for DelayedError<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.error.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let frame = match &self.cutter {
                        Cutter::Connection(_) => frame,
                        Cutter::Stream(unsent) => frame.map_data(|it| unsent.counted(it)),
                    };
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    self.error = Some(io::Error::other(error));
                    // From here on, the transfer waits for the client.
                    waiting::wait_for_client();
                }
                None => return Poll::Ready(None),
            }
        }
        match &self.cutter {
            // hyper usually flushes after it has polled the body. The second time in one poll of the
            // connection, it does so only if it has something to write, so it is woken for another poll.
            Cutter::Connection(cut) => {
                if !cut.request() {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            Cutter::Stream(unsent) => ready!(unsent.poll_none_left(cx)),
        }
        Poll::Ready(self.error.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
