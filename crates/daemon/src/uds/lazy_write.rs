//! A unix stream that isn't woken each time the peer reads.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// After this many consecutive writes that found room, the stream is no longer registered for writability.
const MAX_UNBLOCKED_WRITES: u32 = 1024;

/// A connected unix stream socket that is only registered for writability while it is full.
///
/// tokio's stream is always registered for both directions, and the kernel reports writability each time the
/// peer has read, even if nobody waits for it: one unnecessary wake-up per message.
#[derive(Debug)]
pub struct LazyWriteStream {
    reads: AsyncFd<StdUnixStream>,
    /// Set while writes may find the socket full.
    busy: Option<Busy>,
}

/// State while the peer reads more slowly than this side writes.
#[derive(Debug)]
struct Busy {
    /// The same socket, registered for writability.
    writes: AsyncFd<StdUnixStream>,
    /// Whether the last write found the socket full.
    full: bool,
    /// Writes since then.
    since: u32,
}

impl LazyWriteStream {
    /// Takes over a stream.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket can't be registered.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let reads = register(stream.into_std()?, Interest::READABLE)?;
        Ok(Self { reads, busy: None })
    }

    /// Writes as much as there is room for, or waits for room.
    fn poll_room(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&StdUnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(Busy { writes, full: true, .. }) = &self.busy {
                ready!(writes.poll_write_ready(context))?.clear_ready();
            }
            match write(self.reads.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    self.found_room();
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn wait_for_room(&mut self) -> io::Result<()> {
        match &mut self.busy {
            Some(busy) => (busy.full, busy.since) = (true, 0),
            None => {
                let writes = register(self.reads.get_ref().try_clone()?, Interest::WRITABLE)?;
                self.busy = Some(Busy { writes, full: true, since: 0 });
            }
        }
        Ok(())
    }

    fn found_room(&mut self) {
        if let Some(busy) = &mut self.busy {
            (busy.full, busy.since) = (false, busy.since + 1);
            if busy.since == MAX_UNBLOCKED_WRITES {
                self.busy = None;
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
fn register(stream: StdUnixStream, interest: Interest) -> io::Result<AsyncFd<StdUnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor, which stays the same and open until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

#[expect(unsafe_code, reason = "to read into memory that is not set to zero before")]
impl AsyncRead for LazyWriteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: initialized memory stays initialized, since `read` only writes.
        let space = unsafe { buffer.unfilled_mut() };
        let read = loop {
            let mut ready = ready!(self.reads.poll_read_ready(context))?;
            match ready.try_io(|it| Ok(rustix::io::read(it, &mut *space)?.0.len())) {
                Ok(Ok(read)) => {
                    // Everything was read: new data will be reported again (epoll(7), edge-triggered).
                    if read > 0 && read < space.len() {
                        ready.clear_ready();
                    }
                    break read;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        };
        // SAFETY: the kernel has initialized this many bytes.
        unsafe { buffer.assume_init(read) };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LazyWriteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(context, |mut it| it.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(context, |mut it| it.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.reads.get_ref().shutdown(Shutdown::Write))
    }
}

impl Connected for LazyWriteStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (LazyWriteStream, LazyWriteStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (LazyWriteStream::new(one).unwrap(), LazyWriteStream::new(other).unwrap())
    }

    #[tokio::test]
    async fn all_data_arrives_even_if_the_socket_is_full_at_times() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..8 << 20).map(|it: u32| it.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = async move {
            one.write_all(&sent).await.unwrap();
            assert!(one.busy.is_some(), "the socket was never full");
            while one.busy.is_some() {
                one.write_all(b"x").await.unwrap();
                tokio::task::yield_now().await;
            }
            one.shutdown().await.unwrap();
            one
        };
        let mut received = Vec::new();
        let (_open, read) = tokio::join!(sending, other.read_to_end(&mut received));
        read.unwrap();
        assert!(received.starts_with(&expected));
    }

    #[tokio::test]
    async fn messages_are_exchanged_in_both_directions() {
        let (mut one, mut other) = pair();
        for message in [&b"short"[..], &[7; 200 << 10], b"short again"] {
            let mut received = vec![0; message.len()];
            tokio::join!(async { one.write_all(message).await.unwrap() }, async {
                other.read_exact(&mut received).await.unwrap();
            });
            assert!(received == message);
            std::mem::swap(&mut one, &mut other);
        }
    }

    #[tokio::test]
    async fn a_closed_peer_is_eof_for_reads_and_an_error_for_writes() {
        let (mut one, other) = pair();
        let mut space = [0; 8];
        let (read, ()) = tokio::join!(one.read(&mut space), async { drop(other) });
        assert_eq!(read.unwrap(), 0);
        assert_eq!(one.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
