//! Receives the daemons' notifications, as a service manager does (`sd_notify(3)`).

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The size of the receive buffer, larger than any notification.
const LONGEST: usize = 4096;

/// The socket of `NOTIFY_SOCKET`. The kernel reports the sender.
#[derive(Debug)]
pub(crate) struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notices {
    /// Listens at `path`, and replaces what an earlier run has left there.
    ///
    /// # Errors
    /// If the path is too long, or its folder isn't writable.
    pub(crate) fn bind(path: PathBuf) -> io::Result<Self> {
        let _nothing_left = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self { socket, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the next process that reports that it is stopping. Cancel safe.
    pub(crate) async fn stopping(&self) -> Pid {
        loop {
            // Unreadable messages aren't from our daemons, and are consumed by the attempt.
            let received = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await;
            if let Ok(Some(pid)) = received {
                return pid;
            }
        }
    }
}

/// Reads one message. Returns the sender if it is `STOPPING=1`.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Pid>> {
    let (mut text, mut space) =
        ([0; LONGEST], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))]);
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let length =
        recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let sender = ancillary.drain().find_map(|it| match it {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    });
    let is_stopping = text[..length].split(|byte| *byte == b'\n').any(|line| line == b"STOPPING=1");
    Ok(sender.filter(|_| is_stopping))
}

#[cfg(test)]
mod tests {
    use daemon::notify::{Notify, State};

    use super::*;

    #[tokio::test]
    async fn only_stopping_notifications_are_returned_with_their_sender() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let notices = Notices::bind(path.clone()).unwrap();
        let daemon = Notify::to(Some(path.as_os_str()));
        for state in [State::Ready, State::Reloading, State::Alive, State::Stopping] {
            daemon.report(state);
        }
        assert_eq!(notices.stopping().await, rustix::process::getpid());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        drop(Notices::bind(path.clone()).unwrap());
        assert_eq!(Notices::bind(path.clone()).unwrap().path(), path);
    }
}
