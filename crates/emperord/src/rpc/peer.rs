//! The identity of a connection's peer, as reported by the kernel.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::UnixStream;
use tonic::{Request, Status};

use crate::pidfd::{Caller, PeerProcess};

/// The peer of a connection. It is determined when the connection is accepted. Each call checks that the
/// process still exists.
#[derive(Debug)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
    process: Origin,
}

/// The process that made a connection.
#[derive(Debug)]
enum Origin {
    /// Held by a pidfd, so that no other process is mistaken for it.
    Known(PeerProcess),
    /// It had exited when the connection was accepted.
    Ended,
    /// It is in another PID namespace.
    Elsewhere,
}

impl Peer {
    /// Asks the kernel about an accepted connection.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn of_connection(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0);
        let process = match pid.map(|pid| PeerProcess::of(stream.as_fd(), pid, credentials.uid())) {
            None => Origin::Elsewhere,
            Some(Some(process)) => Origin::Known(process),
            Some(None) => Origin::Ended,
        };
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), process })
    }

    /// Returns the peer of a call: the process that made the connection, which must not have exited. Another
    /// process that was given the connection, or that now has its pid, isn't accepted.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Arc<Self>, Status> {
        let peer = request.extensions().get::<Arc<Self>>();
        let peer = Arc::clone(peer.ok_or_else(|| Status::internal("peer is not known"))?);
        peer.check_is_there()?;
        Ok(peer)
    }

    /// Returns the process, for calls that require one.
    pub(super) fn caller(&self) -> Result<Caller, Status> {
        match &self.process {
            Origin::Known(process) => Ok(Caller { identity: process.identity(), uid: self.uid }),
            Origin::Ended => Err(ended()),
            Origin::Elsewhere => Err(Status::permission_denied("the peer is in another pid namespace")),
        }
    }

    pub(super) fn check_is_there(&self) -> Result<(), Status> {
        match &self.process {
            Origin::Known(process) if process.has_ended() => Err(ended()),
            Origin::Ended => Err(ended()),
            Origin::Known(_) | Origin::Elsewhere => Ok(()),
        }
    }

    /// Allows root, emperord's own user and its own group.
    pub(super) fn check_full_access(&self) -> Result<(), Status> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        match self.has_full_access(uid, gid) {
            true => Ok(()),
            false => Err(Status::permission_denied(format!(
                "user {} is neither root nor of emperord's user or group",
                self.uid
            ))),
        }
    }

    /// Allows these and frontd's group: whoever may connect to the workers may know their addresses.
    pub(super) fn check_may_watch(&self, front: u32) -> Result<(), Status> {
        if self.gid == front { Ok(()) } else { self.check_full_access() }
    }

    fn has_full_access(&self, own_uid: u32, own_gid: u32) -> bool {
        self.uid == 0 || self.uid == own_uid || self.gid == own_gid
    }
}

fn ended() -> Status {
    Status::permission_denied("the process that made this connection has exited: open a new connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid, process: Origin::Elsewhere }
    }

    #[test]
    fn root_own_user_and_own_group_have_full_access() {
        let cases =
            [(0, 1, true), (100, 1, true), (1, 200, true), (1, 1, false), (200, 100, false), (1, 0, false)];
        for (uid, gid, rules) in cases {
            assert_eq!(peer(uid, gid).has_full_access(100, 200), rules, "{uid}:{gid}");
        }
    }

    #[test]
    fn frontds_group_may_only_follow_the_routing_table() {
        let nobody = peer(u32::MAX - 1, u32::MAX - 1);
        assert!(nobody.check_may_watch(nobody.gid).is_ok());
        assert!(nobody.check_may_watch(nobody.gid - 1).is_err());
        assert!(nobody.check_full_access().is_err());
    }

    #[tokio::test]
    async fn exited_callers_are_refused() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of_connection(&one).unwrap();
        let caller = peer.caller().unwrap();
        assert_eq!(caller.identity.pid, std::process::id());
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert!(Peer { process: Origin::Ended, ..peer }.check_is_there().is_err());
    }
}
