//! Decides who may send requests to this worker: frontd, root, and this process's own user.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio::net::UnixStream;

/// Files created in a folder with this bit get the folder's group (inode(7), `S_ISGID`).
const SET_GROUP: u32 = 0o2000;

/// Allowed users and groups, compared with the kernel's credentials (unix(7), `SO_PEERCRED`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peers {
    own: u32,
    /// frontd's group, if frontd runs as another user.
    front: Option<u32>,
}

impl Peers {
    /// The peers of a worker that listens at `socket`. If apps run as other users, emperord has given the
    /// folder to frontd's group, which its files inherit.
    pub(crate) fn of(socket: &Path) -> Self {
        let folder = socket.parent().and_then(|it| it.metadata().ok());
        let given = folder.filter(|it| it.mode() & SET_GROUP != 0);
        Self { own: rustix::process::geteuid().as_raw(), front: given.map(|it| it.gid()) }
    }

    /// Returns the connection. None for a peer that isn't allowed: the connection is closed.
    pub(crate) fn admit(self, accepted: UnixStream) -> Option<io::Result<UnixStream>> {
        match accepted.peer_cred() {
            Ok(peer) if self.admits(peer.uid(), peer.gid()) => Some(Ok(accepted)),
            Ok(peer) => {
                tracing::warn!(
                    uid = peer.uid(),
                    gid = peer.gid(),
                    pid = peer.pid(),
                    "connection refused: not frontd's"
                );
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    fn admits(self, uid: u32, gid: u32) -> bool {
        uid == 0 || uid == self.own || self.front == Some(gid)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn root_own_user_and_frontds_group_are_admitted() {
        for (front, uid, gid, admitted) in [
            (None, 0, 7, true),
            (None, 100, 7, true),
            (None, 101, 100, false),
            (None, 101, 0, false),
            (Some(200), 101, 200, true),
            (Some(200), 101, 201, false),
            (Some(200), 200, 100, false),
        ] {
            let peers = Peers { own: 100, front };
            assert_eq!(peers.admits(uid, gid), admitted, "{uid}:{gid} of {peers:?}");
        }
    }

    #[test]
    fn a_setgid_folder_determines_frontds_group() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().metadata().unwrap().gid();
        for (mode, front) in [(0o750, None), (0o2750, Some(group))] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(Peers::of(&folder.path().join("blog-1.sock")).front, front);
        }
    }
}
