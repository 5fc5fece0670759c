//! Accepts connections to emperord's socket, and identifies their processes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use daemon::accept::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::admission::{Admission, Admitted};
use super::peer::Peer;

/// An endless stream of connections.
pub(super) struct Incoming {
    acceptor: Acceptor<UnixListener>,
    admission: Arc<Admission>,
}

impl Incoming {
    pub(super) fn new(listener: UnixListener, admission: Arc<Admission>) -> Self {
        Self { acceptor: Acceptor::new(listener, admission.tally()), admission }
    }
}

impl Incoming {
    /// Returns None, which closes the connection, if its user has too many or if the process has gone.
    fn connection(&self, stream: UnixStream) -> Option<Connection> {
        let credentials = stream.peer_cred().ok()?;
        let admitted = self.admission.admit(credentials.uid(), credentials.gid())?;
        let peer = Peer::of_connection(&stream).ok()?;
        Some(Connection { stream, peer: Arc::new(peer), _admitted: admitted })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let stream = ready!(self.acceptor.poll_accept(context));
            if let Some(connection) = self.connection(stream) {
                return Poll::Ready(Some(Ok(connection)));
            }
        }
    }
}

pub(super) struct Connection {
    stream: UnixStream,
    peer: Arc<Peer>,
    /// Counts as long as it is open.
    _admitted: Admitted,
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
