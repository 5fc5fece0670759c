//! Hears from inotify that something in the folders of an app has changed.

use std::io;
use std::path::PathBuf;

use inotify::{EventMask, Inotify, Watches};
use tokio::io::unix::AsyncFd;

use super::scan::{MAX_ENTRIES, MAX_FOLDERS};
use super::select::Selection;
use crate::readiness;

/// Why some changes are seen late or never. Nothing stops serving because of it.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// All watches of emperord's user are in use.
    #[error(
        "watch {}: no inotify watch is left: raise fs.inotify.max_user_watches, such as with \
         `sysctl fs.inotify.max_user_watches=524288`; until then its files are looked at once a second",
        .0.display()
    )]
    Watches(PathBuf),
    /// inotify can't be used at all.
    #[error(
        "watch files: {0}: raise fs.inotify.max_user_instances, such as with \
         `sysctl fs.inotify.max_user_instances=512`; until then they are looked at once a second"
    )]
    Instances(io::Error),
    /// inotify refuses a folder for any other reason.
    #[error("watch {}: {source}; its files are looked at once a second", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is more than is looked at.
    #[error(
        "{} has more than {MAX_FOLDERS} folders or {MAX_ENTRIES} files, and changes of the rest are not seen: set \
         `directory` to the folder of the code",
        .0.display()
    )]
    TooMany(PathBuf),
}

/// Tells of changes.
#[derive(Debug)]
pub(super) enum Alarm {
    Armed(AsyncFd<Inotify>),
    /// It never does: files have to be looked at.
    Silent,
}

impl WatchError {
    /// Whether inotify doesn't tell of all changes.
    pub(super) fn is_of_inotify(&self) -> bool {
        !matches!(self, Self::TooMany(_))
    }
}

impl Alarm {
    /// Hears nothing before [`Self::watches`] has folders.
    pub(super) fn new() -> Result<Self, WatchError> {
        let inotify = Inotify::init().and_then(readiness::inotify);
        inotify.map(Self::Armed).map_err(WatchError::Instances)
    }

    /// Where folders are added; None where that is of no use.
    pub(super) fn watches(&self) -> Option<Watches> {
        match self {
            Self::Armed(inotify) => Some(inotify.get_ref().watches()),
            Self::Silent => None,
        }
    }

    /// Waits for a change that may concern a selected file. Nothing is lost when the wait is given up.
    pub(super) async fn heard(&mut self, selection: &Selection) {
        let Self::Armed(inotify) = self else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        loop {
            let Ok(mut readable) = inotify.readable_mut().await else { return std::future::pending().await };
            let read = readable.try_io(|inotify| {
                let mut events = inotify.get_mut().read_events(&mut buffer)?;
                Ok(events.any(|event| match event.name {
                    Some(name) => selection.may_concern(name, event.mask.contains(EventMask::ISDIR)),
                    // A folder itself, or more than the kernel has room for.
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
