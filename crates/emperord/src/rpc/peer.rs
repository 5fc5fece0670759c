//! Who is at the other end of the socket, as the kernel says.

use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

/// The process that made the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: Option<u32>,
    uid: u32,
    gid: u32,
}

impl Peer {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let info = request.extensions().get::<UdsConnectInfo>();
        let cred = info.and_then(|it| it.peer_cred).ok_or_else(|| Status::internal("peer is not known"))?;
        let pid = cred.pid().and_then(|it| u32::try_from(it).ok());
        Ok(Self { pid, uid: cred.uid(), gid: cred.gid() })
    }

    /// Lets root, emperord's own user and its own group pass.
    pub(super) fn check_may_rule(self) -> Result<(), Status> {
        let own = Self {
            pid: None,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        match self.rules(own) {
            true => Ok(()),
            false => Err(Status::permission_denied(format!(
                "user {} is neither root nor of emperord's user or group",
                self.uid
            ))),
        }
    }

    /// Lets those pass, and frontd's group: who may reach the workers may know where they are.
    pub(super) fn check_may_route(self, front: u32) -> Result<(), Status> {
        if self.gid == front { Ok(()) } else { self.check_may_rule() }
    }

    fn rules(self, own: Self) -> bool {
        self.uid == 0 || self.uid == own.uid || self.gid == own.gid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_own_group_rule() {
        let own = Peer { pid: None, uid: 100, gid: 200 };
        let cases =
            [(0, 1, true), (100, 1, true), (1, 200, true), (1, 1, false), (200, 100, false), (1, 0, false)];
        for (uid, gid, rules) in cases {
            assert_eq!(Peer { pid: Some(7), uid, gid }.rules(own), rules, "{uid}:{gid}");
        }
    }

    #[test]
    fn the_group_of_frontd_may_follow_the_table_and_nothing_more() {
        let nobody = Peer { pid: Some(7), uid: u32::MAX - 1, gid: u32::MAX - 1 };
        assert!(nobody.check_may_route(nobody.gid).is_ok());
        assert!(nobody.check_may_route(nobody.gid - 1).is_err());
        assert!(nobody.check_may_rule().is_err());
    }
}
