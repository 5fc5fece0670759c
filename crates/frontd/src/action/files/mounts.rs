//! Distinguishes local from network file systems, where an open may hang forever.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, StatxFlags, statx};

/// How long the list of mounts is used before it is read again.
const FRESH: Duration = Duration::from_secs(10);

/// Prefixes of the names of file systems that another machine or process serves.
const REMOTE: [&str; 18] = [
    "9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs", "gluster", "lustre", "nfs",
    "ocfs", "orangefs", "prl_fs", "smb", "vboxsf", "virtiofs",
];

/// The mounts, shared by all shards.
static MOUNTS: Mutex<Mounts> = Mutex::new(Mounts::UNKNOWN);

#[derive(Debug)]
struct Mounts {
    remote: Option<Remote>,
    /// When a caller was last told to read the mounts.
    requested_at: Option<Instant>,
    refresh_wanted: bool,
}

/// Devices of remote file systems, as major and minor number.
type Remote = HashSet<(u32, u32)>;

/// Whether `folder` is known to be on a file system that needs no network and no other process. Never blocks.
/// Once in a while it returns `false` to a caller, which is then expected to call [`refresh`] where blocking
/// is allowed.
pub(super) fn is_local(folder: impl AsFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(folder, c"", flags, StatxFlags::TYPE) else { return false };
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    MOUNTS.lock().has_local(device)
}

/// Reads the mounts, if [`is_local`] has asked for it.
pub(super) fn refresh() {
    if std::mem::take(&mut MOUNTS.lock().refresh_wanted) {
        // Without /proc, everything counts as local.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let remote = mounts.lines().filter_map(remote).collect();
        MOUNTS.lock().remote = Some(remote);
    }
}

impl Mounts {
    const UNKNOWN: Self = Self { remote: None, requested_at: None, refresh_wanted: false };

    fn has_local(&mut self, device: (u32, u32)) -> bool {
        if self.requested_at.is_none_or(|it| it.elapsed() >= FRESH) {
            self.requested_at = Some(Instant::now());
            self.refresh_wanted = true;
            return false;
        }
        self.remote.as_ref().is_some_and(|it| !it.contains(&device))
    }
}

/// The device in a line of `mountinfo`, if it is a remote file system (proc_pid_mountinfo(5)).
fn remote(line: &str) -> Option<(u32, u32)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    REMOTE.iter().find(|it| filesystem.starts_with(**it))?;
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_filesystems_are_known_by_their_names() {
        for (line, device) in [
            ("36 35 0:45 / /mnt rw,noatime master:1 - nfs4 server:/a rw", Some((0, 45))),
            ("36 35 0:46 / /mnt rw - fuse.sshfs me@host: rw", Some((0, 46))),
            ("36 35 0:48 / /mnt rw - virtiofs share rw", Some((0, 48))),
            ("36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw", None),
            ("36 35 0:47 / / rw - overlay overlay rw", None),
            ("", None),
        ] {
            assert_eq!(remote(line), device, "{line}");
        }
    }

    #[test]
    fn mounts_are_only_read_where_blocking_is_allowed() {
        let mut mounts = Mounts::UNKNOWN;
        assert!(!mounts.has_local((0, 1)) && !mounts.has_local((0, 1)), "the mounts aren't read yet");
        mounts.remote = Some(Remote::from([(0, 2)]));
        assert!(mounts.has_local((0, 1)) && !mounts.has_local((0, 2)));
        assert!(std::mem::take(&mut mounts.refresh_wanted));
        mounts.requested_at = None;
        assert!(!mounts.has_local((0, 1)) && mounts.refresh_wanted, "the list is outdated");
        assert!(mounts.has_local((0, 1)), "one caller is enough to refresh the list");
    }
}
