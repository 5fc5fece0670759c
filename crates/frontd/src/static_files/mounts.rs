//! Tells local disks from network folders, whose server may keep an open waiting for good.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// How long the list of mounts is believed.
const FRESH: Duration = Duration::from_secs(10);

/// What begins the names of filesystems that another machine or process serves.
const REMOTE: [&str; 14] = [
    "9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs", "gluster", "lustre", "nfs",
    "ocfs", "smb",
];

thread_local! {
    static MOUNTS: RefCell<Option<(Instant, Remote)>> = const { RefCell::new(None) };
}

/// Devices of remote filesystems, by major and minor number.
type Remote = HashSet<(u32, u32)>;

/// Whether what `folder` is on answers without a network or another process. It does not wait for that to be known.
pub(super) fn is_local(folder: impl AsFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(folder, c"", flags, StatxFlags::TYPE) else { return false };
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    MOUNTS.with_borrow_mut(|known| {
        let known = match known.take().filter(|(read, _)| read.elapsed() < FRESH) {
            Some(fresh) => known.insert(fresh),
            // Without /proc, all is taken for local.
            None => {
                let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                known.insert((Instant::now(), mounts.lines().filter_map(remote).collect()))
            }
        };
        !known.1.contains(&device)
    })
}

/// The device of a line of `mountinfo`, where it is of a remote filesystem (proc_pid_mountinfo(5)).
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
            ("36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw", None),
            ("36 35 0:47 / / rw - overlay overlay rw", None),
            ("", None),
        ] {
            assert_eq!(remote(line), device, "{line}");
        }
        assert!(is_local(fs::File::open("/proc/self").unwrap()));
    }
}
