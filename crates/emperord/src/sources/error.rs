//! Why some changes of an app's files are noticed late or never.

use std::io;
use std::path::PathBuf;

/// The largest number of names that are read.
pub(super) const MAX_ENTRIES: usize = 20_000;
/// The largest number of folders that are watched.
pub(super) const MAX_FOLDERS: usize = 4096;

/// Why some changes are noticed late or never. Serving isn't affected.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// All inotify watches of emperord's user are in use.
    #[error(
        "watch {}: no inotify watch is left: raise fs.inotify.max_user_watches, such as with \
         `sysctl fs.inotify.max_user_watches=524288`; until then, its files are checked once a second",
        .0.display()
    )]
    Watches(PathBuf),
    /// inotify can't be used at all.
    #[error(
        "watch files: {0}: raise fs.inotify.max_user_instances, such as with \
         `sysctl fs.inotify.max_user_instances=512`; until then, they are checked once a second"
    )]
    Instances(io::Error),
    /// inotify refuses a folder for another reason.
    #[error("watch {}: {source}; its files are checked once a second", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// There are too many files or folders.
    #[error(
        "{} has more than {MAX_FOLDERS} folders or {MAX_ENTRIES} files, and changes of the rest aren't detected: set \
         `directory` to the folder of the code",
        .0.display()
    )]
    TooMany(PathBuf),
}

impl WatchError {
    /// Whether inotify doesn't report all changes.
    pub(super) fn is_of_inotify(&self) -> bool {
        !matches!(self, Self::TooMany(_))
    }
}
