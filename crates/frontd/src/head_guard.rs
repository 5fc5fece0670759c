//! Refuses requests whose framing is ambiguous, before hyper's lenient parser sees them.
//!
//! Two HTTP parsers in a row that disagree where a request ends let a client smuggle a second one
//! past the first (RFC 9112 section 11.2). hyper and httparse accept some of what such attacks are
//! made of: a bare LF as a line end, a repeated Content-Length, Content-Length beside
//! Transfer-Encoding, a list of transfer codings, several Hosts. [`HeadGuard`] sits between the
//! socket and hyper, and follows the byte stream itself. hyper is given whole heads only, each of
//! which it will take: what it would refuse is refused here, where a page, a log line and a counter
//! tell why.
//!
//! In place of a head that breaks the rules, and of all that follows, hyper is given a request that no client can
//! make, `GET *`, so that it is answered in its turn after earlier pipelined ones, with the reason in [`Refusal`].
//! In a body, hyper is given a few bytes that it cannot accept.
//!
//! As it knows where a head begins and ends, it also limits the time that one may take.
//!
//! For HTTP/1 only: HTTP/2 frames its messages. A head that comes in one read is not copied, and nothing is allocated.

mod framing;
mod head;
mod target;
#[cfg(test)]
mod tests;
mod violation;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::metrics::Metrics;
use framing::{Followed, Framing, RefusedIn};
pub(crate) use violation::Violation;

/// What hyper reads instead of the rest of a refused body.
///
/// NUL is an error to hyper wherever it stands, save in a chunk extension, where the LF is one. The
/// two CRLF end the trailers: hyper parses incomplete ones only once they have an end.
const POISON: &[u8] = b"\0\n\r\n\r\n";

/// What hyper reads instead of a refused head.
const REFUSED: &[u8] = b"GET * HTTP/1.1\r\nconnection: close\r\n\r\n";
/// As that, where the answer must have no body.
const REFUSED_HEAD: &[u8] = b"HEAD * HTTP/1.1\r\nconnection: close\r\n\r\n";

/// Bytes that are read at a time once a head has come in parts.
const CHUNK: usize = 8 * 1024;

/// After a refusal, for the client to see its answer before the connection is closed on what it still sends.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that are read and forgotten in that time.
const LINGER_MAX: usize = 1024 * 1024;

/// What a head may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Until it has come, once it has begun.
    pub(crate) time: Duration,
    /// Of its request line and its headers.
    pub(crate) bytes: usize,
}

/// Why the requests of one connection ended; the guard tells, and the service answers.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    violation: Arc<OnceLock<Violation>>,
    metrics: Arc<Metrics>,
}

impl Refusal {
    /// Of a new connection: none yet.
    pub(crate) fn none(metrics: Arc<Metrics>) -> Self {
        Self { violation: Arc::default(), metrics }
    }

    /// The first and only violation, if one was found already: in this request, or in one that follows.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// Whether it is this request that the guard made in place of one.
    pub(crate) fn of<B>(&self, request: &Request<B>) -> Option<Violation> {
        let violation = self.violation()?;
        (request.uri() == "*" && request.method() != Method::OPTIONS).then_some(violation)
    }

    fn set(&self, violation: Violation) {
        self.metrics.refused(violation.name());
        let _is_the_first = self.violation.set(violation);
    }
}

/// A connection whose reading side is checked; writes pass through.
#[derive(Debug)]
pub(crate) struct HeadGuard<IO> {
    io: IO,
    framing: Framing,
    stage: Stage,
    /// Bytes that were read and not given to hyper: `ready` that may be, and then the beginning of a head.
    held: BytesMut,
    ready: usize,
    patience: Duration,
    /// Of the head that is being waited for; made with the first wait.
    deadline: Option<Pin<Box<Sleep>>>,
    refusal: Refusal,
}

#[derive(Debug)]
enum Stage {
    /// Every byte is followed.
    Checked,
    /// A violation was found: what the client sends is read only to learn that it went away.
    Refused,
    /// hyper has answered, and so many bytes were read since.
    Lingers(Pin<Box<Sleep>>, usize),
}

impl<IO> HeadGuard<IO> {
    /// Guards `io`, which is at the beginning of a request.
    pub(crate) fn new(io: IO, limits: HeadLimits, refusal: Refusal) -> Self {
        Self {
            io,
            framing: Framing::new(limits.bytes),
            stage: Stage::Checked,
            held: BytesMut::new(),
            ready: 0,
            patience: limits.time,
            deadline: None,
            refusal,
        }
    }

    /// Checks what was just read: `buf` from `start` on, at the beginning of a head or in a body.
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

    /// Checks what is held and not yet ready.
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

    /// Takes so many bytes out of what is held, at a place behind what was ready.
    fn cut(&mut self, place: usize, len: usize) {
        if len > 0 {
            let rest = self.held.split_off(self.ready + place);
            self.held.extend_from_slice(&rest[len..]);
        }
    }

    /// Makes a head ready that stands behind what is: one of so many bytes.
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

    /// Ends the requests of this connection behind what is ready, of which all that is held is.
    fn refuse(&mut self, violation: Violation, place: RefusedIn, is_head: bool) {
        self.refusal.set(violation);
        if place == RefusedIn::Body {
            // One in a head is logged when it is answered.
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

    /// Gives hyper what is ready, as far as there is room; says whether there was any.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.ready.min(buf.remaining());
        if len == 0 {
            return false;
        }
        buf.put_slice(&self.held[..len]);
        self.held.advance(len);
        self.ready -= len;
        if self.held.is_empty() {
            // What was held is seldom, and an idle connection is to be small.
            self.held = BytesMut::new();
        }
        true
    }

    /// Ready when the head that has begun should have ended. Never between requests, and never in a body.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let sleep = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        sleep.as_mut().poll(cx)
    }
}

impl<IO: AsyncRead + Unpin> HeadGuard<IO> {
    /// Reads more of a head that has begun. Ready with false at the end of the stream.
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

    /// Reads and forgets; ready with 0 at the end of the stream.
    fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut forgotten = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut forgotten))?;
        Poll::Ready(Ok(forgotten.filled().len()))
    }

    /// Ready when the client has seen the refusal, or could have.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let forgotten = self.poll_forget(cx);
            let Stage::Lingers(sleep, count) = &mut self.stage else { return Poll::Ready(Ok(())) };
            match forgotten {
                Poll::Ready(Ok(more)) if more > 0 && *count < LINGER_MAX => *count += more,
                // It has left, or sends for too long.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return sleep.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HeadGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        while !this.give(buf) {
            if !matches!(this.stage, Stage::Checked) {
                if ready!(this.poll_forget(cx))? == 0 {
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

    /// After a refusal it lingers: to close on what the client still sends would reset the connection, and the client
    /// might never see why.
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
