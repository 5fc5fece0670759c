//! Early hints (RFC 8297): interim 103 responses, written between hyper's own messages.
//!
//! hyper's server can't send interim responses, so they bypass it, for HTTP/1.1 only. When hyper flushes the
//! connection, all its data has been written, and the response to the current request hasn't started. HTTP/2
//! frames can't be inserted that way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Maximum number of bytes that wait for a client that doesn't read. Further hints are dropped.
const MAX_WAITING: usize = 64 * 1024;

/// Early hints for one connection that aren't written yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct EarlyHints(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Whether there is text. Checked on every flush, without the lock.
    any: AtomicBool,
    text: Mutex<BytesMut>,
}

impl EarlyHints {
    /// Sends `headers` as an interim response with the next flush.
    pub(crate) fn send(&self, headers: &HeaderMap) {
        let mut text = self.0.text.lock();
        if headers.is_empty() || text.len() > MAX_WAITING {
            return;
        }
        text.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            push_title_case(&mut text, name.as_str());
            for part in [b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b"\r\n");
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// Discards hints that weren't sent, because the final response is there and they would come after it.
    pub(crate) fn withdraw(&self) {
        self.0.text.lock().clear();
        self.0.any.store(false, Ordering::Relaxed);
    }

    /// Takes the hints to be sent, if there are any.
    fn take(&self) -> Option<Bytes> {
        if !self.0.any.load(Ordering::Relaxed) {
            return None;
        }
        self.0.any.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *self.0.text.lock()).freeze())
    }
}

/// Writes a name in title case, as hyper does for HTTP/1.1.
fn push_title_case(text: &mut BytesMut, name: &str) {
    let mut after = b'-';
    text.extend(name.bytes().map(|byte| {
        let cased = if after == b'-' { byte.to_ascii_uppercase() } else { byte };
        after = byte;
        cased
    }));
}

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
    use http::HeaderValue;
    use http::header::LINK;
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

    #[test]
    fn waiting_hints_are_bounded() {
        let hints = EarlyHints::default();
        for _ in 0..10_000 {
            hints.send(&headers("<a>"));
        }
        assert!(hints.take().is_some_and(|it| it.len() <= MAX_WAITING + SENT.len()));
        assert_eq!(hints.take(), None);
    }
}
