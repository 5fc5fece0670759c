//! Who is at the other end of a connection, as the kernel says.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::UnixStream;
use tonic::{Request, Status};

use crate::process::{Caller, PeerProcess};

/// Who made a connection. Known from when it was accepted; whether that process is still there is asked at each call.
#[derive(Debug)]
pub(super) struct Peer {
    uid: u32,
    gid: u32,
    process: Maker,
}

/// The process that made a connection.
#[derive(Debug)]
enum Maker {
    /// Held, so that no other passes for it.
    Known(PeerProcess),
    /// It had ended when the connection was accepted.
    Ended,
    /// It is in another PID namespace.
    Elsewhere,
}

impl Peer {
    /// Asks the kernel about a connection that was accepted.
    ///
    /// # Errors
    /// When it does not tell.
    pub(super) fn of_connection(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0);
        let process = match pid.map(|pid| PeerProcess::of(stream.as_fd(), pid, credentials.uid())) {
            None => Maker::Elsewhere,
            Some(Some(process)) => Maker::Known(process),
            Some(None) => Maker::Ended,
        };
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), process })
    }

    /// Who makes a call: the process that made the connection, which must not have ended. Another process that was
    /// given the connection, or has its pid by now, is not taken for it.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Arc<Self>, Status> {
        let peer = request.extensions().get::<Arc<Self>>();
        let peer = Arc::clone(peer.ok_or_else(|| Status::internal("peer is not known"))?);
        peer.check_is_there()?;
        Ok(peer)
    }

    /// The process, for what only a process may do.
    pub(super) fn caller(&self) -> Result<Caller, Status> {
        match &self.process {
            Maker::Known(process) => Ok(Caller { identity: process.identity(), uid: self.uid }),
            Maker::Ended => Err(ended()),
            Maker::Elsewhere => Err(Status::permission_denied("the peer is in another pid namespace")),
        }
    }

    pub(super) fn check_is_there(&self) -> Result<(), Status> {
        match &self.process {
            Maker::Known(process) if process.has_ended() => Err(ended()),
            Maker::Ended => Err(ended()),
            Maker::Known(_) | Maker::Elsewhere => Ok(()),
        }
    }

    /// Lets root, emperord's own user and its own group pass.
    pub(super) fn check_may_rule(&self) -> Result<(), Status> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        match self.rules(uid, gid) {
            true => Ok(()),
            false => Err(Status::permission_denied(format!(
                "user {} is neither root nor of emperord's user or group",
                self.uid
            ))),
        }
    }

    /// Lets those pass, and frontd's group: who may reach the workers may know where they are.
    pub(super) fn check_may_route(&self, front: u32) -> Result<(), Status> {
        if self.gid == front { Ok(()) } else { self.check_may_rule() }
    }

    fn rules(&self, own_uid: u32, own_gid: u32) -> bool {
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
        Peer { uid, gid, process: Maker::Elsewhere }
    }

    #[test]
    fn root_the_own_user_and_the_own_group_rule() {
        let cases =
            [(0, 1, true), (100, 1, true), (1, 200, true), (1, 1, false), (200, 100, false), (1, 0, false)];
        for (uid, gid, rules) in cases {
            assert_eq!(peer(uid, gid).rules(100, 200), rules, "{uid}:{gid}");
        }
    }

    #[test]
    fn the_group_of_frontd_may_follow_the_table_and_nothing_more() {
        let nobody = peer(u32::MAX - 1, u32::MAX - 1);
        assert!(nobody.check_may_route(nobody.gid).is_ok());
        assert!(nobody.check_may_route(nobody.gid - 1).is_err());
        assert!(nobody.check_may_rule().is_err());
    }

    #[tokio::test]
    async fn a_process_is_known_and_one_that_is_gone_is_not() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of_connection(&one).unwrap();
        let caller = peer.caller().unwrap();
        assert_eq!(caller.identity.pid, std::process::id());
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert!(Peer { process: Maker::Ended, ..peer }.check_is_there().is_err());
    }
}
