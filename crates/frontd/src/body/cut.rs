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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::send_timeout;

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
                    send_timeout::wait_for_client();
                }
                None => return Poll::Ready(None),
            }
        }
        match &self.cutter {
            // hyper usually flushes after it has polled the body. The second time in one poll of the
            // connection, it does so only if it has something to write, so it is woken for another poll.
            Cutter::Connection(cut) => {
                if !cut.0.swap(true, Ordering::Relaxed) {
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

/// An I/O wrapper that can be asked to end the connection.
#[derive(Debug)]
pub(crate) struct Cuttable<IO> {
    io: IO,
    cut: ConnectionCut,
}

impl<IO> Cuttable<IO> {
    pub(crate) fn new(io: IO, cut: ConnectionCut) -> Self {
        Self { io, cut }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Cuttable<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Cuttable<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        match self.cut.0.load(Ordering::Relaxed) {
            true => Poll::Ready(Err(io::Error::other("a response was aborted"))),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::{FutureExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::task::TaskTracker;

    use super::*;

    fn broken(cutter: Cutter) -> DelayedError<impl Body<Data = Bytes, Error = io::Error> + Unpin> {
        let frames = [Ok(Frame::data(Bytes::from_static(b"last"))), Err(io::Error::other("it broke"))];
        DelayedError::new(StreamBody::new(stream::iter(frames)), cutter)
    }

    #[test]
    fn a_stream_is_reset_once_its_last_chunk_is_sent() {
        let mut body = broken(Cutter::stream());
        let piece = body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
        let rest = piece.slice(2..);
        drop(piece);
        assert!(body.frame().now_or_never().is_none(), "the chunk isn't sent yet");
        assert_eq!(rest, "st");
        drop(rest);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_next_flush_after_all_data_is_written() {
        let (near, mut far) = tokio::io::duplex(1024);
        let cut = ConnectionCut::default();
        let mut io = Cuttable::new(near, cut.clone());
        let mut body = broken(Cutter::Connection(cut));
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        io.write_all(&piece).await.unwrap();
        io.flush().await.unwrap();
        assert!(body.frame().now_or_never().is_none());
        io.write_all(b" words").await.unwrap();
        assert!(io.flush().await.is_err());
        drop(io);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last words");
    }

    /// hyper polls the body a second time in one poll, and doesn't flush after that unless there is something
    /// to write.
    #[tokio::test]
    async fn a_connection_ends_if_the_error_comes_after_the_flush() {
        let (near, mut far) = tokio::io::duplex(1024);
        let cut = ConnectionCut::default();
        let io = TokioIo::new(Cuttable::new(near, cut.clone()));
        let service = service_fn(move |_| {
            let mut polls = 0;
            let frames = stream::poll_fn(move |_| {
                polls += 1;
                match polls {
                    1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"last"))))),
                    2 => Poll::Pending,
                    _ => Poll::Ready(Some(Err(io::Error::other("it broke")))),
                }
            });
            let body = DelayedError::new(StreamBody::new(frames), Cutter::Connection(cut.clone()));
            async { Ok::<_, Infallible>(http::Response::new(body)) }
        });
        far.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
        // On a separate task, so that the timer doesn't wake it.
        let served = TaskTracker::new().spawn(connection);
        let served = tokio::time::timeout(Duration::from_secs(10), served).await;
        assert!(served.expect("nobody wakes the connection").unwrap().is_err());
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read.ends_with(b"4\r\nlast\r\n"), "{}", read.escape_ascii());
    }
}
