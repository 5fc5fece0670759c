//! Waits for inotify to report changes in the folders of an app.

use std::io;
use std::path::PathBuf;

use inotify::{EventMask, Inotify, Watches};
use tokio::io::unix::AsyncFd;

use super::scan::{MAX_ENTRIES, MAX_FOLDERS};
use super::select::Selection;
use crate::readiness;

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

/// Reports changes.
#[derive(Debug)]
pub(super) enum Alarm {
    Armed(AsyncFd<Inotify>),
    /// inotify isn't available: files have to be polled.
    Silent,
}

impl WatchError {
    /// Whether inotify doesn't report all changes.
    pub(super) fn is_of_inotify(&self) -> bool {
        !matches!(self, Self::TooMany(_))
    }
}

impl Alarm {
    /// Creates an inotify instance, which has no folders yet.
    pub(super) fn new() -> Result<Self, WatchError> {
        let inotify = Inotify::init().and_then(readiness::inotify);
        inotify.map(Self::Armed).map_err(WatchError::Instances)
    }

    /// Returns where to add folders. None if that is useless.
    pub(super) fn watches(&self) -> Option<Watches> {
        match self {
            Self::Armed(inotify) => Some(inotify.get_ref().watches()),
            Self::Silent => None,
        }
    }

    /// Waits for a change that may concern a selected file. Cancel safe.
    pub(super) async fn changed(&mut self, selection: &Selection) {
        let Self::Armed(inotify) = self else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        loop {
            let Ok(mut readable) = inotify.readable_mut().await else { return std::future::pending().await };
            let read = readable.try_io(|inotify| {
                let mut events = inotify.get_mut().read_events(&mut buffer)?;
                Ok(events.any(|event| match event.name {
                    Some(name) => selection.may_concern(name, event.mask.contains(EventMask::ISDIR)),
                    // A change of a folder itself, or an overflow of the kernel's queue.
                    None => !event.mask.contains(EventMask::IGNORED),
                }))
            });
            match read {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true) | Err(_)) => return,
            }
        }
    }
}
