//! A unix stream that is woken for what arrives only.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// Bytes that one read takes at most.
const PIECE: usize = 64 << 10;

/// A connected unix stream socket that waits for room to write only when there is none.
///
/// Tokio's own is always registered for both, and the kernel reports room on a unix stream each time the peer
/// has read, whether anybody lacked it or not: one wake-up more for each message that is sent.
#[derive(Debug)]
pub struct CalmStream {
    reads: AsyncFd<StdUnixStream>,
    /// The same socket, while there is no room to write.
    full: Option<AsyncFd<StdUnixStream>>,
}

impl CalmStream {
    /// Takes over a stream.
    ///
    /// # Errors
    /// When the socket cannot be registered anew.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let reads = register(stream.into_std()?, Interest::READABLE)?;
        Ok(Self { reads, full: None })
    }

    /// Writes what there is room for; waits for room where there is none.
    fn poll_room(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&StdUnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(context))?.clear_ready();
            }
            match write(self.reads.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => {
                    self.full = None;
                    return Poll::Ready(written);
                }
            }
            if self.full.is_none() {
                let twin = self.reads.get_ref().try_clone()?;
                self.full = Some(register(twin, Interest::WRITABLE)?);
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays the same")]
fn register(stream: StdUnixStream, interest: Interest) -> io::Result<AsyncFd<StdUnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor, which is one and the same and open until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

impl AsyncRead for CalmStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buffer.initialize_unfilled_to(buffer.remaining().min(PIECE));
        loop {
            let mut ready = ready!(self.reads.poll_read_ready(context))?;
            match ready.try_io(|it| it.get_ref().read(space)) {
                Ok(Ok(read)) => {
                    // All that there was: the next to arrive is reported again (epoll(7), edge-triggered).
                    if read > 0 && read < space.len() {
                        ready.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for CalmStream {
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

impl Connected for CalmStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (CalmStream, CalmStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (CalmStream::new(one).unwrap(), CalmStream::new(other).unwrap())
    }

    #[tokio::test]
    async fn all_arrives_though_there_is_not_always_room() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..8 << 20).map(|it: u32| it.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = async move {
            one.write_all(&sent).await.unwrap();
            assert!(one.full.is_none(), "nothing is waited for any more");
            one.shutdown().await.unwrap();
            one
        };
        let mut received = Vec::new();
        let (_open, read) = tokio::join!(sending, other.read_to_end(&mut received));
        read.unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn messages_go_to_and_fro() {
        let (mut one, mut other) = pair();
        for message in [&b"short"[..], &[7; 3 * PIECE], b"short again"] {
            let mut received = vec![0; message.len()];
            tokio::join!(async { one.write_all(message).await.unwrap() }, async {
                other.read_exact(&mut received).await.unwrap();
            });
            assert!(received == message);
            std::mem::swap(&mut one, &mut other);
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_is_the_end_and_an_error() {
        let (mut one, other) = pair();
        let mut space = [0; 8];
        let (read, ()) = tokio::join!(one.read(&mut space), async { drop(other) });
        assert_eq!(read.unwrap(), 0);
        assert_eq!(one.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
