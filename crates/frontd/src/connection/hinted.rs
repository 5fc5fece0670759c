//! Writes early hints between hyper's messages.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::visit::early_hints::EarlyHints;

/// An I/O wrapper that writes early hints between hyper's messages.
#[derive(Debug)]
pub(crate) struct Hinted<IO> {
    io: IO,
    hints: EarlyHints,
    /// A partly written hint, which must be finished before anything else is written.
    partial: Bytes,
}

impl<IO> Hinted<IO> {
    pub(crate) fn new(io: IO, hints: EarlyHints) -> Self {
        Self { io, hints, partial: Bytes::new() }
    }
}

impl<IO: AsyncWrite + Unpin> Hinted<IO> {
    fn poll_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.partial.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.partial))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.partial.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Hinted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Hinted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_partial(cx))?;
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_partial(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_partial(cx))?;
        if let Some(hints) = self.hints.take() {
            self.partial = hints;
            ready!(self.poll_partial(cx))?;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_partial(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_LENGTH, LINK};
    use http::{HeaderMap, HeaderValue};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        [(LINK, HeaderValue::from_static(value)), (CONTENT_LENGTH, HeaderValue::from_static("5"))]
            .into_iter()
            .collect()
    }

    const SENT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n";

    #[tokio::test]
    async fn hints_are_sent_on_flush_and_never_within_other_data() {
        let (near, mut far) = tokio::io::duplex(1024);
        let hints = EarlyHints::default();
        let mut io = Hinted::new(near, hints.clone());
        hints.send(&headers("<a>"));
        io.write_all(b"one ").await.unwrap();
        io.flush().await.unwrap();
        io.write_all(b"two").await.unwrap();
        drop(io);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [b"one ", SENT, b"two"].concat());
    }

    #[tokio::test]
    async fn a_partly_written_hint_is_finished_first_and_an_unsent_one_can_be_withdrawn() {
        let (near, mut far) = tokio::io::duplex(4);
        let hints = EarlyHints::default();
        let mut io = Hinted::new(near, hints.clone());
        hints.send(&headers("<a>"));
        tokio::select! {
            biased;
            _ = io.flush() => panic!("the whole hint fits"),
            () = std::future::ready(()) => {}
        }
        hints.send(&headers("<b>"));
        hints.withdraw();
        let (written, read) = tokio::join!(
            async {
                io.write_all(b"rest").await?;
                io.flush().await?;
                drop(io);
                io::Result::Ok(())
            },
            async {
                let mut read = Vec::new();
                far.read_to_end(&mut read).await.map(|_| read)
            }
        );
        written.unwrap();
        assert_eq!(read.unwrap(), [SENT, b"rest"].concat());
    }
}
