//! Opens a file beneath a folder, with the kernel enforcing that the path doesn't leave it.
//!
//! `openat2` with `RESOLVE_BENEATH` follows symlinks within the folder, and refuses absolute ones and those
//! that lead out. For a refused symlink, or on a kernel without `openat2`, [`through_links`] finds the file
//! and asks the kernel where it is.
//!
//! Every open is first tried with `RESOLVE_CACHED`, which doesn't block, so that a path in the kernel's
//! caches needs no other thread.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlink};
use rustix::io::Errno;

use super::mounts;
use super::path::FilePath;
use crate::body::file::DiskFile;
use crate::disk::{Disk, DiskError};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Target {
    File(OpenFile),
    /// A folder with an index page, requested without the trailing slash.
    FolderWithPage,
}

/// A regular file, and its state when it was opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<DiskFile>,
    pub(super) stamp: Stamp,
}

/// The state of a file. If it is unchanged, so is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    pub(super) size: u64,
    /// Nanoseconds since 1970. Earlier times count as 1970.
    pub(super) modified: u128,
    changed: (i64, i64),
}

/// How symlinks are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symlinks {
    /// Only within the folder.
    Inside,
    /// To any place.
    Anywhere,
}

/// Why a file can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no such file")]
    NotFound,
    #[error("a symlink leads out of the folder")]
    LeadsOut,
    #[error("the file isn't readable")]
    Forbidden,
    /// Temporary, until other requests have closed their files.
    #[error("too many files are open")]
    TooMany,
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Whether an open may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocking {
    Allowed,
    Never,
}

/// Opens `path` beneath `folder`, on a thread of `disk` if it isn't in the kernel's caches.
pub(super) async fn open(
    folder: &Path,
    path: &FilePath,
    symlinks: Symlinks,
    disk: &Disk,
) -> Result<Target, OpenError> {
    match target(folder, path, symlinks, disk, Blocking::Never) {
        Err(Errno::AGAIN) => {}
        at_once => return at_once.map_err(OpenError::from),
    }
    let (folder, path, disk_clone) = (folder.to_owned(), path.clone(), disk.clone());
    let opened = disk.run(move || target(&folder, &path, symlinks, &disk_clone, Blocking::Allowed));
    opened.await?.map_err(OpenError::from)
}

/// Opens a file that the operator configured by name, wherever its symlinks lead.
pub(super) async fn open_named(path: &Path, disk: &Disk) -> Result<Target, OpenError> {
    let (path, disk_clone) = (path.to_owned(), disk.clone());
    let opened = disk.run(move || {
        let found = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let file = regular(File::from(reopen(&found)?), &disk_clone, Blocking::Allowed)?;
        file.ok_or(Errno::NOENT).map(Target::File)
    });
    opened.await?.map_err(OpenError::from)
}

fn target(
    folder: &Path,
    path: &FilePath,
    symlinks: Symlinks,
    disk: &Disk,
    blocking: Blocking,
) -> Result<Target, Errno> {
    // Opened each time, since a deploy may have replaced the folder.
    let root = open_root(folder, blocking)?;
    if blocking == Blocking::Allowed {
        mounts::refresh();
    }
    if blocking == Blocking::Never && !mounts::is_local(&root) {
        return Err(Errno::AGAIN);
    }
    match regular(File::from(open_below(&root, path, symlinks, blocking)?), disk, blocking)? {
        Some(file) => Ok(Target::File(file)),
        None => {
            open_below(&root, &path.clone().index(), symlinks, blocking)?;
            Ok(Target::FolderWithPage)
        }
    }
}

/// Returns `None` for a folder.
fn regular(file: File, disk: &Disk, blocking: Blocking) -> Result<Option<OpenFile>, Errno> {
    let metadata = file.metadata().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if metadata.is_file() {
        let stamp = Stamp::new(&metadata);
        let waits = blocking == Blocking::Allowed;
        let file = Arc::new(DiskFile::new(file, disk.clone(), waits));
        return Ok(Some(OpenFile { file, stamp }));
    }
    if metadata.is_dir() { Ok(None) } else { Err(Errno::NOENT) }
}

const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// NONBLOCK so that opening a FIFO doesn't block, NOCTTY so that a terminal isn't acquired.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open_root(folder: &Path, blocking: Blocking) -> Result<OwnedFd, Errno> {
    match blocking {
        Blocking::Allowed => openat(CWD, folder, ROOT, Mode::empty()),
        Blocking::Never => resolve(CWD, folder, ROOT, ResolveFlags::CACHED),
    }
}

fn open_below(
    root: &OwnedFd,
    path: &FilePath,
    symlinks: Symlinks,
    blocking: Blocking,
) -> Result<OwnedFd, Errno> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if blocking == Blocking::Never {
        // A mount beneath the folder may be on a network, and following other links may block: both are left
        // to a disk thread.
        let here = beneath | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
        return match resolve(root, path.as_path(), READ, here) {
            Err(Errno::XDEV) => Err(Errno::AGAIN),
            opened => opened,
        };
    }
    // EAGAIN means that something was renamed meanwhile, and the kernel can't tell whether the path led out.
    for _ in 0..8 {
        match resolve(root, path.as_path(), READ, beneath) {
            Err(Errno::XDEV) => return through_links(root, path.as_path(), symlinks),
            Err(Errno::AGAIN) if is_openat2_missing() => {
                return through_links(root, path.as_path(), symlinks);
            }
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::NOENT)
}

/// Opens a path that contains arbitrary links, if the file is in an allowed place. Returns XDEV if it isn't.
///
/// The file is first found without being opened, then checked by the location that the kernel reports, and
/// only then opened, through its descriptor. Whatever is renamed meanwhile, the file that was checked is the
/// one that is read.
fn through_links(root: &OwnedFd, path: &Path, symlinks: Symlinks) -> Result<OwnedFd, Errno> {
    let find = OFlags::PATH | OFlags::CLOEXEC;
    let found = match resolve(root, path, find, ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::AGAIN) if is_openat2_missing() => openat(root, path, find, Mode::empty())?,
        found => found?,
    };
    if symlinks == Symlinks::Inside && !location(&found)?.starts_with(location(root)?) {
        return Err(Errno::XDEV);
    }
    reopen(&found)
}

/// Opens a file that was found. Devices and sockets aren't opened.
fn reopen(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    match FileType::from_raw_mode(fstat(found)?.st_mode) {
        FileType::RegularFile | FileType::Directory => openat(CWD, by_descriptor(found), READ, Mode::empty()),
        _ => Err(Errno::NOENT),
    }
}

/// The location of an open file or folder, with all links resolved.
fn location(of: &OwnedFd) -> Result<PathBuf, Errno> {
    let location = readlink(by_descriptor(of), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(location.into_bytes())))
}

fn by_descriptor(of: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", of.as_raw_fd())
}

static OPENAT2_IS_MISSING: AtomicBool = AtomicBool::new(false);

fn is_openat2_missing() -> bool {
    OPENAT2_IS_MISSING.load(Ordering::Relaxed)
}

/// Calls `openat2`. Returns EAGAIN if it isn't available.
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
        // Before Linux 5.6, or blocked by an old seccomp filter of a container.
        Err(Errno::NOSYS) => {
            OPENAT2_IS_MISSING.store(true, Ordering::Relaxed);
            Err(Errno::AGAIN)
        }
        // RESOLVE_CACHED exists since Linux 5.12.
        Err(Errno::INVAL) if how.contains(ResolveFlags::CACHED) => Err(Errno::AGAIN),
        opened => opened,
    }
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
    /// The inode number.
    pub(super) fn inode(self) -> u64 {
        self.inode.1
    }

    /// Whether it belongs to this file, regardless of its content.
    pub(super) fn is_of(self, device: u64, inode: u64) -> bool {
        self.inode == (device, inode)
    }
}

impl OpenFile {
    /// The current state of the file.
    pub(super) fn stamp_now(&self) -> io::Result<Stamp> {
        Ok(Stamp::new(&self.file.get()?.metadata()?))
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::XDEV => Self::LeadsOut,
            // NXIO is a socket. INVAL is a name that the file system doesn't allow.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
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

    /// As on a kernel without `openat2`.
    #[test]
    fn the_location_decides_whether_a_link_is_followed() {
        let temp = tempfile::TempDir::new().unwrap();
        let (outside, root) = (temp.path().join("secret"), temp.path().join("root"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(temp.path().join("root-2")).unwrap();
        for file in [&outside, &root.join("a/b/c.txt"), &temp.path().join("root-2/c.txt")] {
            std::fs::write(file, "c").unwrap();
        }
        symlink(&outside, root.join("a/out")).unwrap();
        symlink(temp.path(), root.join("up")).unwrap();
        symlink("b", root.join("a/inner")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink(temp.path().join("root-2"), root.join("beside")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let folder = open_root(&root, Blocking::Allowed).unwrap();
        for (path, inside, anywhere) in [
            ("a/b/c.txt", Ok(()), Ok(())),
            ("a/inner/c.txt", Ok(()), Ok(())),
            ("absolute/b/c.txt", Ok(()), Ok(())),
            ("a/out", Err(Errno::XDEV), Ok(())),
            ("up/secret", Err(Errno::XDEV), Ok(())),
            ("up/root/a/b/c.txt", Ok(()), Ok(())),
            ("beside/c.txt", Err(Errno::XDEV), Ok(())),
            ("magic/etc/passwd", Err(Errno::LOOP), Err(Errno::LOOP)),
            ("a/none", Err(Errno::NOENT), Err(Errno::NOENT)),
            ("a/b/c.txt/d", Err(Errno::NOTDIR), Err(Errno::NOTDIR)),
        ] {
            let path = FilePath::parse(path, Names::Public).unwrap();
            for (symlinks, expected) in [(Symlinks::Inside, inside), (Symlinks::Anywhere, anywhere)] {
                let opened = through_links(&folder, path.as_path(), symlinks).map(drop);
                assert_eq!(opened, expected, "{path:?}, {symlinks:?}");
            }
        }
    }
}
