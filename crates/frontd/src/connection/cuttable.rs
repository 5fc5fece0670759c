//! Ends an HTTP/1.1 connection in the middle of a response whose body failed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::cut::ConnectionCut;

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
        match self.cut.is_requested() {
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

    use bytes::Bytes;
    use futures_util::{FutureExt as _, stream};
    use http_body::{Body, Frame};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::body::cut::{Cutter, DelayedError};

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
