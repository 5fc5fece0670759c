//! Determines which process listens on a unix socket, even if it has stopped running.

use std::path::Path;

use rustix::fd::AsFd as _;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{PeerProcess, Process};

impl Process {
    /// Returns the process that listens on the socket at `path`. None if nobody does, or if its backlog is full.
    ///
    /// The kernel accepts the connection and knows who listens, so that the process needn't do anything.
    pub(crate) fn listening_on(path: &Path) -> Option<Self> {
        let peer = peer(path).ok()??;
        let process = Self::open(peer.identity().pid).ok()?;
        // Only afterwards is it certain that both are the same.
        (process.identity() == peer.identity() && !peer.has_ended()).then_some(process)
    }
}

fn peer(path: &Path) -> Result<Option<PeerProcess>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let listener = socket_peercred(&socket)?;
    let pid = listener.pid.as_raw_nonzero().get().cast_unsigned();
    Ok(PeerProcess::of(socket.as_fd(), pid, listener.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn the_process_that_listens_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        assert!(Process::listening_on(&path).is_none());
        let listener = UnixListener::bind(&path).unwrap();
        let found = Process::listening_on(&path).unwrap();
        assert_eq!(found.identity().pid, std::process::id());
        drop(listener);
        assert!(Process::listening_on(&path).is_none(), "nobody listens any more");
    }
}
