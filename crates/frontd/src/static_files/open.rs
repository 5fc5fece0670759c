//! Opens a file below a folder; the kernel refuses every way out of it.
//!
//! `openat2` with `RESOLVE_BENEATH` follows symlinks within the folder and refuses those that lead
//! out of it. Where the kernel has none, the path is walked name by name and no symlink is followed.
//!
//! Everything is first tried without waiting for a disk (`RESOLVE_CACHED`), so that what is in the
//! kernel's caches costs no hop to another thread.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::mounts;
use super::path::FilePath;
use crate::disk::{Disk, DiskError};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Target {
    File(OpenFile),
    /// A folder with a page, asked for without its slash.
    FolderWithPage,
}

/// A regular file, and what it was when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<DiskFile>,
    pub(super) stamp: Stamp,
}

/// A file that is read, and where need be closed, on threads of its folder's disk.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: Option<File>,
    pub(super) disk: Disk,
    /// It was opened on such a thread: what is done with it may wait for another machine.
    waits: bool,
}

impl DiskFile {
    /// The file, which is there until the drop.
    pub(super) fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether its disk had to be waited for, and may have to be again.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if self.waits {
            self.disk.close(self.file.take());
        }
    }
}

/// A file whose stamp is unchanged has the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    pub(super) size: u64,
    /// Since 1970, in nanoseconds; what is older is taken for 1970.
    pub(super) modified: u128,
    changed: (i64, i64),
}

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no such file")]
    NotFound,
    #[error("the file may not be read")]
    Forbidden,
    /// Until others are done with theirs.
    #[error("too many files are open")]
    TooMany,
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Whether an open may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Wait,
    Never,
}

/// Opens `path` below `folder`, on a thread of `disk` when it is not in the kernel's caches.
pub(super) async fn open(folder: &Path, path: &FilePath, disk: &Disk) -> Result<Target, OpenError> {
    match target(folder, path, disk, Patience::Never) {
        Err(Errno::AGAIN) => {}
        at_once => return at_once.map_err(OpenError::from),
    }
    let (folder, path, its_disk) = (folder.to_owned(), path.clone(), disk.clone());
    disk.run(move || target(&folder, &path, &its_disk, Patience::Wait)).await?.map_err(OpenError::from)
}

fn target(folder: &Path, path: &FilePath, disk: &Disk, patience: Patience) -> Result<Target, Errno> {
    // Anew each time: a deploy may have put another folder into its place.
    let root = open_root(folder, patience)?;
    if patience == Patience::Never && !mounts::is_local(&root) {
        return Err(Errno::AGAIN);
    }
    let file = File::from(open_below(&root, path, patience)?);
    let metadata = file.metadata().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if metadata.is_file() {
        let stamp = Stamp::new(&metadata);
        let waits = patience == Patience::Wait;
        let file = Arc::new(DiskFile { file: Some(file), disk: disk.clone(), waits });
        return Ok(Target::File(OpenFile { file, stamp }));
    }
    if !metadata.is_dir() {
        return Err(Errno::NOENT);
    }
    open_below(&root, &path.clone().index(), patience)?;
    Ok(Target::FolderWithPage)
}

const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A FIFO must not be waited for, nor a terminal be taken.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open_root(folder: &Path, patience: Patience) -> Result<OwnedFd, Errno> {
    match patience {
        Patience::Wait => openat(CWD, folder, ROOT, Mode::empty()),
        Patience::Never => resolve(CWD, folder, ROOT, ResolveFlags::CACHED),
    }
}

fn open_below(root: &OwnedFd, path: &FilePath, patience: Patience) -> Result<OwnedFd, Errno> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if patience == Patience::Never {
        // What is mounted below may be on a network.
        let here = beneath | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        return match resolve(root, path.as_path(), READ, here) {
            Err(Errno::XDEV) => Err(Errno::AGAIN),
            opened => opened,
        };
    }
    // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether the path led out.
    for _ in 0..8 {
        match resolve(root, path.as_path(), READ, beneath) {
            Err(Errno::AGAIN) if is_openat2_missing() => return walk(root, path),
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::NOENT)
}

static OPENAT2_IS_MISSING: AtomicBool = AtomicBool::new(false);

fn is_openat2_missing() -> bool {
    OPENAT2_IS_MISSING.load(Ordering::Relaxed)
}

/// `openat2`, or EAGAIN where that cannot say.
fn resolve(
    root: impl std::os::fd::AsFd,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    if is_openat2_missing() {
        return Err(Errno::AGAIN);
    }
    match openat2(root, path, flags, Mode::empty(), how) {
        // Before Linux 5.6, or forbidden by a container's seccomp filter of that age.
        Err(Errno::NOSYS) => {
            OPENAT2_IS_MISSING.store(true, Ordering::Relaxed);
            Err(Errno::AGAIN)
        }
        // Before Linux 5.12 there is no RESOLVE_CACHED.
        Err(Errno::INVAL) if how.contains(ResolveFlags::CACHED) => Err(Errno::AGAIN),
        opened => opened,
    }
}

/// Opens name by name and follows no symlink, so that nothing can lead out.
fn walk(root: &OwnedFd, path: &FilePath) -> Result<OwnedFd, Errno> {
    let mut folder = root.try_clone().map_err(|_| Errno::MFILE)?;
    let mut segments = path.segments().peekable();
    while let Some(segment) = segments.next() {
        let flags = if segments.peek().is_some() { ROOT } else { READ };
        folder = openat(&folder, segment, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}

impl Stamp {
    fn new(metadata: &std::fs::Metadata) -> Self {
        let seconds = u128::try_from(metadata.mtime()).unwrap_or(0);
        let nanoseconds = u128::try_from(metadata.mtime_nsec()).unwrap_or(0);
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: seconds * 1_000_000_000 + nanoseconds,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stamp {
    /// Whether it is of that very file, whatever it holds.
    pub(super) fn is_of(self, device: u64, inode: u64) -> bool {
        self.inode == (device, inode)
    }
}

impl OpenFile {
    /// What the file is now.
    pub(super) fn stamp_now(&self) -> io::Result<Stamp> {
        Ok(Stamp::new(&self.file.get()?.metadata()?))
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            // XDEV is a symlink that leads out; NXIO a socket; INVAL a name that the filesystem cannot have.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ => Self::NotFound,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::MFILE | Errno::NFILE => Self::TooMany,
            other => Self::Failed(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::path::Names;
    use super::*;

    #[test]
    fn the_walk_follows_no_symlink() {
        let temp = tempfile::TempDir::new().unwrap();
        let (outside, root) = (temp.path().join("secret"), temp.path().join("root"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        std::fs::write(root.join("a/b/c.txt"), "c").unwrap();
        symlink(&outside, root.join("a/out")).unwrap();
        symlink(temp.path(), root.join("up")).unwrap();
        symlink("b", root.join("a/inner")).unwrap();
        let folder = open_root(&root, Patience::Wait).unwrap();
        for (path, opens) in [
            ("a/b/c.txt", true),
            ("a/out", false),
            ("up/secret", false),
            ("a/inner/c.txt", false),
            ("a/none", false),
            ("a/b/c.txt/d", false),
        ] {
            let opened = walk(&folder, &FilePath::parse(path, Names::Public).unwrap());
            assert_eq!(opened.is_ok(), opens, "{path}");
            assert!(opens || matches!(OpenError::from(opened.unwrap_err()), OpenError::NotFound), "{path}");
        }
    }
}
