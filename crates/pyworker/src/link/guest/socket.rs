//! The socket of a connection from frontd, for the tasks of a guest.
#![expect(unsafe_code, reason = "tokio's read buffer trusts how much of it was filled")]

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reactor::{Direction, Reactor, Readiness};

/// A connected socket that doesn't block.
pub(crate) struct Socket {
    stream: UnixStream,
    reactor: Arc<Reactor>,
    readiness: Arc<Readiness>,
    key: usize,
    waits_to_write: Arc<AtomicBool>,
}

impl Socket {
    pub(super) fn new(stream: UnixStream, reactor: &Arc<Reactor>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (key, readiness) = reactor.add(stream.as_fd())?;
        Ok(Self { stream, reactor: Arc::clone(reactor), readiness, key, waits_to_write: Arc::default() })
    }

    /// Whether something that was sent isn't in the kernel yet.
    pub(crate) fn waits_to_write(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.waits_to_write)
    }

    fn poll_send(
        &mut self,
        context: &Context<'_>,
        mut send: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.readiness.is_ready(Direction::Write, context) {
            match send(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.clear(Direction::Write);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    self.set_waits_to_write(false);
                    return Poll::Ready(sent);
                }
            }
        }
        self.set_waits_to_write(true);
        Poll::Pending
    }

    fn set_waits_to_write(&self, waits: bool) {
        self.waits_to_write.store(waits, Ordering::SeqCst);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.readiness.is_ready(Direction::Read, context) {
            let room = buffer.remaining();
            // SAFETY: only `recv` writes to it, and it writes initialized bytes.
            let unfilled = unsafe { buffer.unfilled_mut() };
            match rustix::net::recv(&this.stream, &mut *unfilled, RecvFlags::empty()) {
                Ok(((received, _), count)) => {
                    debug_assert_eq!(received.len(), count);
                    // A socket that returns less has no more: epoll reports what arrives later.
                    if 0 < count && count < room {
                        this.readiness.clear_after_short_read();
                    }
                    // SAFETY: the kernel has written `count` bytes.
                    unsafe { buffer.assume_init(count) };
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => this.readiness.clear(Direction::Read),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let send = |stream: &UnixStream| Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?);
        self.get_mut().poll_send(context, send)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Python ignores SIGPIPE, and so does a process that this crate is tested in.
        self.get_mut().poll_send(context, |stream| Ok(rustix::io::writev(stream, pieces)?))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(std::net::Shutdown::Write))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.remove(self.key, self.stream.as_fd());
    }
}
