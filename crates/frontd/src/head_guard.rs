//! Refuses requests whose framing is ambiguous, before hyper's lenient parser sees them.
//!
//! Two HTTP parsers in a row that disagree where a request ends let a client smuggle a second one
//! past the first (RFC 9112 section 11.2). hyper and httparse accept some of what such attacks are
//! made of: a bare LF as a line end, a repeated Content-Length, Content-Length beside
//! Transfer-Encoding, a list of transfer codings, several Hosts. [`HeadGuard`] sits between the
//! socket and hyper, follows the framing of the byte stream itself, and at the first violation
//! replaces all that follows by a few bytes that hyper cannot accept. So hyper answers 400 itself, in
//! its turn after earlier pipelined responses, and closes. What hyper refuses anyway (obs-fold,
//! whitespace before the colon, a bare CR, NUL) is left to it; the tests hold it to that.
//!
//! As it knows where a head begins and ends, it also limits the time that one may take.
//!
//! For HTTP/1 only: HTTP/2 frames its messages. Each byte is looked at once, nothing is allocated.

mod framing;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use framing::Framing;

/// What hyper reads instead of the rest of a refused request.
///
/// NUL is an error to hyper wherever it stands, save in a chunk extension, where the LF is one. The
/// two CRLF end the head or the trailers: hyper parses an incomplete one only once it has an end.
const POISON: &[u8] = b"\0\n\r\n\r\n";

/// A connection whose reading side is checked; writes pass through.
#[derive(Debug)]
pub(crate) struct HeadGuard<IO> {
    io: IO,
    reading: Reading,
    patience: Duration,
    /// Of the head that is being waited for, by its number; made with the first wait.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

#[derive(Debug)]
enum Reading {
    /// Every byte is followed.
    Checked(Framing),
    /// A violation was found; the poison not yet read, and then whatever the client sends: hyper
    /// reads that only to learn that the client went away, for it closes at the poison.
    Refused(&'static [u8]),
}

impl<IO> HeadGuard<IO> {
    /// Guards `io`, which is at the beginning of a request. A head that has begun must end within `patience`.
    pub(crate) fn new(io: IO, patience: Duration) -> Self {
        Self { io, reading: Reading::Checked(Framing::default()), patience, deadline: None }
    }

    /// Checks what was just read: `buf` from `start` on.
    fn check(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let Reading::Checked(framing) = &mut self.reading else { return };
        let Err((at, violation)) = framing.follow(&buf.filled()[start..]) else { return };
        tracing::debug!(%violation, "refused a request");
        buf.set_filled(start + at);
        self.reading = Reading::Refused(POISON);
        self.poison(buf);
    }

    /// Ready when the head that has begun should have ended. Never between requests, and never in a body.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Reading::Checked(framing) = &self.reading else { return Poll::Pending };
        let Some(head) = framing.open_head() else {
            self.deadline = None;
            return Poll::Pending;
        };
        let patience = self.patience;
        let deadline = self.deadline.take().filter(|(of, _)| *of == head);
        let (_, sleep) =
            self.deadline.insert(deadline.unwrap_or_else(|| (head, Box::pin(tokio::time::sleep(patience)))));
        sleep.as_mut().poll(cx)
    }

    /// Hands out as much of the poison as there is room for; says whether there was any.
    fn poison(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Reading::Refused(poison) = &mut self.reading else { return false };
        let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(now);
        *poison = later;
        !now.is_empty()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HeadGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.poison(buf) {
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                ready!(this.poll_deadline(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        this.check(buf, start);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for HeadGuard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
