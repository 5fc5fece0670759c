//! Waits for inotify to report changes in the folders of an app.

use inotify::{EventMask, Inotify, Watches};
use tokio::io::unix::AsyncFd;

use super::error::WatchError;
use super::select::Selection;
use crate::readiness;

/// Reports changes.
#[derive(Debug)]
pub(super) enum Alarm {
    Armed(AsyncFd<Inotify>),
    /// inotify isn't available: files have to be polled.
    Silent,
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
