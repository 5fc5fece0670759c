//! Determines which process made a connection to a unix socket.
#![expect(unsafe_code, reason = "no crate knows SO_PEERPIDFD, and libc gives plain integers")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Identity, is_readable};

/// From the kernel's `asm-generic/socket.h`, which applies to all platforms that Imperium supports.
const SO_PEERPIDFD: libc::c_int = 77;

/// The process that made a connection. It is held by a pidfd, so that no other process is mistaken for it.
///
/// Its pid alone isn't enough: the kernel remembers the pid of the process that made the connection, but
/// reuses it once that process has exited, even while the connection is open.
#[derive(Debug)]
pub(crate) struct PeerProcess {
    identity: Identity,
    pidfd: OwnedFd,
}

impl PeerProcess {
    /// Asks the kernel which process made the connection. `pid` and `uid` are those of `SO_PEERCRED`. None if
    /// the process has exited.
    ///
    /// Before Linux 6.5, only the pid is available. Then the current process with that pid is accepted if it
    /// has that user. Another process that got the pid meanwhile belongs to another app only if both have the
    /// same user, and must have been started between the connection and its acceptance.
    pub(crate) fn of(socket: BorrowedFd<'_>, pid: u32, uid: u32) -> Option<Self> {
        let pidfd = match peer_pidfd(socket) {
            Ok(pidfd) => pidfd,
            Err(Errno::NOPROTOOPT) => return Self::of_pid(pid, uid),
            Err(_has_ended) => return None,
        };
        Self::holding(pidfd, pid)
    }

    fn of_pid(pid: u32, uid: u32) -> Option<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let peer = Self::holding(pidfd_open(raw, PidfdFlags::empty()).ok()?, pid)?;
        peer.identity.has_user(uid).then_some(peer)
    }

    /// If the process hasn't exited afterwards, everything that was read by its pid was its own.
    fn holding(pidfd: OwnedFd, pid: u32) -> Option<Self> {
        let peer = Self { identity: Identity::of(pid)?, pidfd };
        (!peer.has_ended()).then_some(peer)
    }

    /// Returns its identity.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it has exited, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        is_readable(&self.pidfd)
    }
}

/// `SO_PEERPIDFD` (unix(7)).
fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let socket = socket.as_raw_fd();
    let mut pidfd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: `pidfd` and `length` are valid for writes, and `length` is the size of `pidfd`.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut pidfd).cast(), &raw mut length)
    };
    match result {
        // SAFETY: the kernel has just created this descriptor, which nobody else owns.
        0 if pidfd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        0 => Err(Errno::SRCH),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::SRCH)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_process_of_a_connection_is_found_with_and_without_peerpidfd() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
        let own = Identity::of(pid);
        assert_eq!(PeerProcess::of(one.as_fd(), pid, uid).map(|it| it.identity()), own);
        let by_pid = PeerProcess::of_pid(pid, uid).unwrap();
        assert_eq!(Some(by_pid.identity()), own);
        assert!(!by_pid.has_ended());
        assert!(PeerProcess::of_pid(pid, uid + 1).is_none(), "somebody else has the pid");
        assert!(PeerProcess::of_pid(u32::MAX, uid).is_none());
    }

    #[test]
    fn an_exited_process_is_not_accepted() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let raw = Pid::from_child(&child);
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).unwrap();
        let peer = PeerProcess { identity: Identity::of(child.id()).unwrap(), pidfd };
        child.wait().unwrap();
        assert!(peer.has_ended());
        assert!(PeerProcess::holding(peer.pidfd, std::process::id()).is_none());
    }
}
