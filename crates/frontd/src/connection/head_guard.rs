//! Refuses requests with ambiguous framing before hyper's lenient parser sees them.
//!
//! If two HTTP parsers in a chain disagree about where a request ends, a client can smuggle a second request
//! past the first one (RFC 9112, section 11.2). hyper and httparse accept some of the ingredients of such
//! attacks: a bare LF as line end, a repeated Content-Length, Content-Length together with Transfer-Encoding,
//! lists of transfer codings, and several Hosts. [`HeadGuard`] sits between the socket and hyper, and parses
//! the byte stream itself. hyper only gets complete heads that it will accept. What hyper would refuse is
//! refused here, with a page, a log line and a counter.
//!
//! Instead of an invalid head and everything that follows, hyper gets a request that no client can send, `GET
//! *`. So the refusal is sent in its turn, after the responses to earlier pipelined requests, with the reason
//! in [`Refusal`]. In a body, hyper gets a few bytes that it can't accept.
//!
//! The guard also limits the time for a head, since it knows where heads begin and end.
//!
//! For HTTP/1 only: HTTP/2 frames its messages. A head that arrives in one read is neither copied nor
//! allocated.

mod framing;
mod head;
mod target;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::visit::refusal::Refusal;
use crate::visit::upgrade::Upgrade;
use crate::visit::violation::Violation;
use framing::{Followed, Framing, RefusedIn};

/// What hyper reads instead of the rest of a refused body.
///
/// NUL is an error for hyper everywhere except in a chunk extension, where LF is one. The two CRLFs end the
/// trailers, because hyper only parses complete ones.
const POISON: &[u8] = b"\0\n\r\n\r\n";

/// What hyper reads instead of a refused head.
const REFUSED: &[u8] = b"GET * HTTP/1.1\r\nconnection: close\r\n\r\n";
/// The same for a HEAD request, whose response must have no body.
const REFUSED_HEAD: &[u8] = b"HEAD * HTTP/1.1\r\nconnection: close\r\n\r\n";

/// Bytes per read once a head has arrived in parts.
const CHUNK: usize = 8 * 1024;

/// How long to keep reading after a refusal, so that the client can see the response before the connection is
/// closed.
const LINGER: Duration = Duration::from_secs(2);
/// How many bytes to discard in that time.
const LINGER_MAX: usize = 1024 * 1024;

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// The time from its first to its last byte.
    pub(crate) time: Duration,
    /// The size of the request line and the headers, in bytes.
    pub(crate) bytes: usize,
}

/// An I/O wrapper that checks what is read. Writes pass through.
#[derive(Debug)]
pub(crate) struct HeadGuard<IO> {
    io: IO,
    framing: Framing,
    stage: Stage,
    /// Bytes that were read and not passed to hyper: first `ready` bytes that may be, then the beginning of a
    /// head.
    held: BytesMut,
    ready: usize,
    time_limit: Duration,
    /// The deadline of the current head. Created with the first wait.
    deadline: Option<Pin<Box<Sleep>>>,
    refusal: Refusal,
    upgrade: Upgrade,
}

#[derive(Debug)]
enum Stage {
    /// The stream is checked.
    Checked,
    /// There was a violation. Further input is only read to notice that the client leaves.
    Refused,
    /// hyper has responded. The number of bytes discarded since then.
    Lingers(Pin<Box<Sleep>>, usize),
}

impl<IO> HeadGuard<IO> {
    /// Wraps `io`, which must be at the beginning of a request.
    pub(crate) fn new(io: IO, limits: HeadLimits, refusal: Refusal) -> Self {
        Self {
            io,
            framing: Framing::new(limits.bytes),
            stage: Stage::Checked,
            held: BytesMut::new(),
            ready: 0,
            time_limit: limits.time,
            deadline: None,
            refusal,
            upgrade: Upgrade::default(),
        }
    }

    /// Checks nothing more once `upgrade` is accepted.
    pub(crate) fn until(self, upgrade: Upgrade) -> Self {
        Self { upgrade, ..self }
    }

    /// Checks new data: `buf` from `start` on, which is at the beginning of a head or in a body.
    fn check(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let bytes = &mut buf.filled_mut()[start..];
        let ready = match self.framing.follow(bytes) {
            Followed::UpTo { ready, empty } => {
                self.held.extend_from_slice(&bytes[ready + empty..]);
                ready
            }
            Followed::Rewrite { ready, head, rewrite } => {
                self.held.extend_from_slice(&bytes[head.start..]);
                self.rewrite(head.len(), rewrite);
                self.check_held();
                ready
            }
            Followed::Refused { ready, violation, place } => {
                self.refuse(violation, place, bytes[ready..].starts_with(b"HEAD "));
                ready
            }
        };
        buf.set_filled(start + ready);
    }

    /// Checks the held bytes that aren't ready yet.
    fn check_held(&mut self) {
        while matches!(self.stage, Stage::Checked) && self.ready < self.held.len() {
            let bytes = &mut self.held[self.ready..];
            match self.framing.follow(bytes) {
                Followed::UpTo { ready, empty } => {
                    self.cut(ready, empty);
                    self.ready += ready;
                    return;
                }
                Followed::Rewrite { ready, head, rewrite } => {
                    self.cut(ready, head.start - ready);
                    self.ready += ready;
                    self.rewrite(head.len(), rewrite);
                }
                Followed::Refused { ready, violation, place } => {
                    let is_head = bytes[ready..].starts_with(b"HEAD ");
                    self.held.truncate(self.ready + ready);
                    self.ready += ready;
                    self.refuse(violation, place, is_head);
                }
            }
        }
    }

    /// Removes `len` held bytes at `place`, counted from the end of the ready bytes.
    fn cut(&mut self, place: usize, len: usize) {
        if len > 0 {
            let rest = self.held.split_off(self.ready + place);
            self.held.extend_from_slice(&rest[len..]);
        }
    }

    /// Marks the head of `len` bytes after the ready bytes as ready, rewritten if necessary.
    fn rewrite(&mut self, len: usize, rewrite: Option<framing::Rewrite>) {
        let mut len = len;
        if let Some(framing::Rewrite { place, by }) = rewrite {
            let rest = self.held.split_off(self.ready + place.start);
            self.held.extend_from_slice(&by);
            self.held.extend_from_slice(&rest[place.len()..]);
            len = len - place.len() + by.len();
        }
        self.ready += len;
    }

    /// Ends the requests on this connection. All held bytes must be ready.
    fn refuse(&mut self, violation: Violation, place: RefusedIn, is_head: bool) {
        self.refusal.set(violation);
        if place == RefusedIn::Body {
            // A violation in a head is logged with its response.
            tracing::debug!(reason = violation.name(), %violation, "refused a request");
        }
        self.stage = Stage::Refused;
        self.held.extend_from_slice(match place {
            RefusedIn::Body => POISON,
            RefusedIn::Head if is_head => REFUSED_HEAD,
            RefusedIn::Head => REFUSED,
        });
        self.ready = self.held.len();
    }

    /// Passes ready bytes to hyper. Returns whether there were any.
    fn give_ready(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.ready.min(buf.remaining());
        if len == 0 {
            return false;
        }
        buf.put_slice(&self.held[..len]);
        self.held.advance(len);
        self.ready -= len;
        if self.held.is_empty() {
            // Held data is rare, and idle connections should be small.
            self.held = BytesMut::new();
        }
        true
    }

    /// Ready when the current head takes too long. Only polled within a head.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time_limit = self.time_limit;
        let sleep = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time_limit)));
        sleep.as_mut().poll(cx)
    }
}

impl<IO: AsyncRead + Unpin> HeadGuard<IO> {
    /// Reads more of a head. Returns `false` at the end of the stream.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let len = self.held.len();
        self.held.resize(len + CHUNK, 0);
        let mut chunk = ReadBuf::new(&mut self.held[len..]);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut chunk);
        let count = chunk.filled().len();
        self.held.truncate(len + count);
        match read {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                let is_head = self.held.starts_with(b"HEAD ");
                self.held.clear();
                self.refuse(Violation::HeadTimeout, RefusedIn::Head, is_head);
                return Poll::Ready(Ok(true));
            }
        }
        self.check_held();
        if self.ready > 0 || self.held.is_empty() {
            self.deadline = None;
        }
        Poll::Ready(Ok(count > 0))
    }

    /// Reads and discards data. Returns 0 at the end of the stream.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut discarded = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut discarded))?;
        Poll::Ready(Ok(discarded.filled().len()))
    }

    /// Ready once the client has seen the refusal, or has had the time to.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let discarded = self.poll_discard(cx);
            let Stage::Lingers(sleep, count) = &mut self.stage else { return Poll::Ready(Ok(())) };
            match discarded {
                Poll::Ready(Ok(more)) if more > 0 && *count < LINGER_MAX => *count += more,
                // The client has left, or keeps sending for too long.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return sleep.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HeadGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.upgrade.is_accepted() {
            this.ready = this.held.len();
            return if this.give_ready(buf) {
                Poll::Ready(Ok(()))
            } else {
                Pin::new(&mut this.io).poll_read(cx, buf)
            };
        }
        let start = buf.filled().len();
        while !this.give_ready(buf) {
            if !matches!(this.stage, Stage::Checked) {
                if ready!(this.poll_discard(cx))? == 0 {
                    break;
                }
            } else if !this.held.is_empty() {
                if !ready!(this.poll_head(cx))? {
                    break;
                }
            } else {
                ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                if buf.filled().len() == start {
                    break;
                }
                this.check(buf, start);
                if buf.filled().len() > start {
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadGuard<IO> {
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

    /// Keeps reading for a while after a refusal: closing while the client still sends would reset the
    /// connection, and the client might never see the response.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.stage {
            Stage::Checked => Pin::new(&mut this.io).poll_shutdown(cx),
            Stage::Refused => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                this.stage = Stage::Lingers(Box::pin(tokio::time::sleep(LINGER)), 0);
                this.poll_linger(cx)
            }
            Stage::Lingers(..) => this.poll_linger(cx),
        }
    }
}
