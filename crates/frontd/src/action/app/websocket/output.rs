//! What waits to be written to a client. While nothing does, it holds no memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Once this much waits, nothing is added.
pub(super) const HIGH: usize = 128 * 1024;

/// Written bytes at the front are removed once they are this many.
const COMPACT: usize = 64 * 1024;

/// At most this is written at once: over HTTP/2, hyper copies it, and a stream whose window is closed may hold three of
/// these.
const WRITE: usize = 32 * 1024;

/// A buffer that is kept when it is empty.
const KEPT: usize = 1024;

/// Frames on their way to a client.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Something was written since the last flush.
    unflushed: bool,
}

impl Output {
    /// Where frames are appended.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many bytes aren't written yet.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending() < HIGH
    }

    /// Ready when everything is written and flushed. Returns whether anything was written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> (bool, Poll<io::Result<()>>) {
        let mut wrote = false;
        while self.pending() > 0 {
            let end = self.bytes.len().min(self.written + WRITE);
            match Pin::new(&mut *io).poll_write(cx, &self.bytes[self.written..end]) {
                Poll::Ready(Ok(0)) => return (wrote, Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return (wrote, Poll::Ready(Err(error))),
                Poll::Pending => {
                    if self.written > COMPACT {
                        self.bytes.drain(..self.written);
                        self.written = 0;
                    }
                    return (wrote, Poll::Pending);
                }
            }
        }
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.unflushed {
            match Pin::new(io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other => return (wrote, other),
            }
        }
        (wrote, Poll::Ready(Ok(())))
    }
}
