//! Takes a snapshot of an app's files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use inotify::{WatchMask, Watches};
use rustix::io::Errno;

use super::error::{MAX_ENTRIES, MAX_FOLDERS, WatchError};
use super::select::Selection;

/// The largest depth of folders.
const MAX_DEPTH: usize = 16;

/// The state of the files, for comparison.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) roots: Roots,
    files: BTreeMap<PathBuf, Stamp>,
    /// All of them were read.
    pub(super) is_whole: bool,
}

/// Changes that aren't visible in the folders below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Roots {
    /// Device and inode of the app's folder. None if it doesn't exist.
    folder: Option<(u64, u64)>,
    interpreter: Option<Stamp>,
    /// It may be in another folder.
    env_file: Option<Stamp>,
}

/// Identifies a version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds. Changes of link count and extended attributes don't make another version.
    modified: (i64, i64),
    access: (u32, u32),
    changed: Option<SystemTime>,
}

/// Reads all selected files. Folders that aren't watched yet are added to `watches` before they are read.
pub(super) fn scan(selection: &Selection, watches: Option<Watches>) -> (Snapshot, Option<WatchError>) {
    let sources = &selection.sources;
    let roots = roots(selection);
    let device = roots.folder.map(|(device, _)| device);
    let seen = Snapshot { roots, is_whole: true, ..Snapshot::default() };
    let mut scan =
        Scan { selection, watches, device, folders: MAX_FOLDERS, entries: MAX_ENTRIES, seen, problem: None };
    scan.folder(&sources.directory, 0);
    [&sources.app, &sources.env_file].into_iter().flatten().for_each(|it| scan.file(it.clone()));
    if let (Some(path), Some(stamp)) = (&sources.interpreter, roots.interpreter) {
        scan.seen.files.insert(path.clone(), stamp);
    }
    (scan.seen, scan.problem)
}

/// Reads the state of the app's folder and interpreter.
pub(super) fn roots(selection: &Selection) -> Roots {
    let sources = &selection.sources;
    let folder = fs::metadata(&sources.directory).ok().map(|it| (it.dev(), it.ino()));
    let stamp = |path: &Option<PathBuf>| Some(Stamp::of(&fs::metadata(path.as_ref()?).ok()?));
    Roots { folder, interpreter: stamp(&sources.interpreter), env_file: stamp(&sources.env_file) }
}

impl Snapshot {
    /// Whether the app's folder exists.
    pub(super) fn is_there(&self) -> bool {
        self.roots.folder.is_some()
    }

    /// The files that were added, removed or changed since `before`.
    pub(super) fn differences(&self, before: &Self) -> Vec<PathBuf> {
        let is_other = |(path, stamp): &(&PathBuf, &Stamp)| {
            before.files.get(*path).is_none_or(|it| !it.is_same_version(stamp))
        };
        let others = self.files.iter().filter(is_other).map(|(path, _)| path);
        let gone = before.files.keys().filter(|path| !self.files.contains_key(*path));
        others.chain(gone).cloned().collect()
    }

    /// The files that changed after `since`, ignoring times in the future.
    pub(super) fn newer_than(&self, since: SystemTime) -> Vec<PathBuf> {
        let now = SystemTime::now();
        let is_newer = |stamp: &Stamp| stamp.changed.is_some_and(|it| it > since && it <= now);
        self.files.iter().filter(|(_, it)| is_newer(it)).map(|(path, _)| path.clone()).collect()
    }
}

impl Stamp {
    fn of(it: &Metadata) -> Self {
        let seconds = u64::try_from(it.ctime()).ok().zip(u32::try_from(it.ctime_nsec()).ok());
        let changed = seconds.and_then(|(s, ns)| SystemTime::UNIX_EPOCH.checked_add(Duration::new(s, ns)));
        Self {
            inode: it.ino(),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            access: (it.mode(), it.uid()),
            changed,
        }
    }

    fn is_same_version(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified, self.access)
            == (other.inode, other.size, other.modified, other.access)
    }
}

struct Scan<'a> {
    selection: &'a Selection,
    watches: Option<Watches>,
    /// Folders on other devices, which are mount points, aren't entered.
    device: Option<u64>,
    folders: usize,
    entries: usize,
    seen: Snapshot,
    problem: Option<WatchError>,
}

impl Scan<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) {
        let Some(folders) = self.folders.checked_sub(1).filter(|_| depth <= MAX_DEPTH) else {
            return self.too_many();
        };
        self.folders = folders;
        // Watch it before reading it, so that no change is missed in between.
        self.follow(folder);
        let (mut names, mut below) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(entries) = self.entries.checked_sub(1) else { return self.too_many() };
            self.entries = entries;
            match entry.file_type() {
                Ok(it) if it.is_dir() => below.push(entry.file_name()),
                Ok(_) => names.push(entry.file_name()),
                Err(_) => {}
            }
        }
        let selected: Vec<PathBuf> =
            self.selection.of_folder(folder, &names).map(|name| folder.join(name)).collect();
        selected.into_iter().for_each(|path| self.file(path));
        // Sort, so that the same files are left out each time if there are too many.
        below.sort();
        below.into_iter().for_each(|name| self.folder_below(folder, &name, depth));
    }

    fn folder_below(&mut self, folder: &Path, name: &OsString, depth: usize) {
        let path = folder.join(name);
        let is_here = || fs::symlink_metadata(&path).is_ok_and(|it| Some(it.dev()) == self.device);
        if !self.selection.skips(&path, name) && is_here() {
            self.folder(&path, depth + 1);
        }
    }

    fn file(&mut self, path: PathBuf) {
        if let Ok(it) = fs::metadata(&path) {
            self.seen.files.insert(path, Stamp::of(&it));
        }
    }

    fn follow(&mut self, folder: &Path) {
        let Some(watches) = &mut self.watches else { return };
        let changes = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE;
        let itself =
            WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        // The top folder may be a symbolic link.
        let itself =
            if folder == self.selection.sources.directory { itself - WatchMask::DONT_FOLLOW } else { itself };
        let Err(source) = watches.add(folder, changes | itself) else { return };
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC) => {
                self.problem = Some(WatchError::Watches(self.selection.sources.directory.clone()));
                self.watches = None;
            }
            // It was removed meanwhile, or emperord may not read it, and thus its files.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
            _ => {
                self.problem = Some(WatchError::Folder { folder: folder.to_owned(), source });
                self.watches = None;
            }
        }
    }

    fn too_many(&mut self) {
        self.seen.is_whole = false;
        if self.problem.is_none() {
            self.problem = Some(WatchError::TooMany(self.selection.sources.directory.clone()));
        }
    }
}
