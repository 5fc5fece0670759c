//! Receives changes from inotify, and reads a file once it hasn't changed for a moment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::files::Files;
use super::{FileEvent, FolderError, Reading, failed};
use crate::readiness;

/// Editors write a file more than once, or write one and rename it.
const QUIET: Duration = Duration::from_millis(50);
/// How often to check whether a vanished folder is back.
const LOOK_FOR_FOLDER: Duration = Duration::from_secs(1);
/// How often to check files outside of the folder: targets of symbolic links, and files named by `env_file`.
const LOOK_AT_LINKS: Duration = Duration::from_secs(1);

/// A folder that is being followed.
#[derive(Debug)]
pub struct Vassals {
    folder: PathBuf,
    inotify: AsyncFd<Inotify>,
    files: Files,
    due: Due,
    links_due: Instant,
    /// It can't be followed, which was reported.
    is_lost: bool,
}

/// What to check, and when.
#[derive(Debug)]
enum Due {
    /// These files.
    Files(BTreeMap<OsString, Instant>),
    /// Everything, with a new watch: changes were lost, or the folder was replaced.
    Everything(Instant),
}

impl Vassals {
    /// Creates the folder if it is missing, starts to follow it, and reads all files.
    ///
    /// # Errors
    /// If it can't be created, watched or read.
    pub fn open(folder: &Path) -> Result<(Self, Vec<FileEvent>), FolderError> {
        fs::create_dir_all(folder).map_err(failed("make folder", folder))?;
        // Watch it before reading it, so that no change is missed in between.
        let inotify = watch(folder).map_err(failed("watch folder", folder))?;
        let mut files = Files::new(folder);
        let events = files.scan().map_err(failed("read folder", folder))?;
        let due = Due::Files(BTreeMap::new());
        let links_due = Instant::now() + LOOK_AT_LINKS;
        Ok((Self { folder: folder.to_owned(), inotify, files, due, links_due, is_lost: false }, events))
    }

    /// Waits for changes, and returns them, removals first. Cancel safe.
    pub async fn changes(&mut self) -> Vec<FileEvent> {
        loop {
            tokio::select! {
                noticed = read_events(&mut self.inotify) => {
                    self.due.note(&self.folder, noticed);
                    continue;
                }
                () = sleep_until(self.due.first()) => {}
                () = wait_until(self.files.judged_at()) => {}
                () = sleep_until(self.links_due) => self.look_around(),
            }
            let mut events = self.look();
            if !events.is_empty() {
                // Removals come first, so that a renamed file doesn't conflict with its new name.
                events.sort_by_key(|it| !matches!(it.reading, Reading::Gone | Reading::Missing(_)));
                return events;
            }
        }
    }

    /// Checks what inotify doesn't report: writes to targets of symbolic links and to env files, and whether
    /// another folder was mounted over this one, or a link to it now leads elsewhere.
    fn look_around(&mut self) {
        let now = Instant::now();
        self.links_due = now + LOOK_AT_LINKS;
        if matches!(self.due, Due::Files(_)) && self.files.is_another_folder() {
            self.due = Due::Everything(now);
        }
        if let Due::Files(due) = &mut self.due {
            for file in self.files.changed_elsewhere() {
                due.entry(file).or_insert(now + QUIET);
            }
        }
    }

    fn look(&mut self) -> Vec<FileEvent> {
        match &mut self.due {
            Due::Files(due) => {
                let now = Instant::now();
                let files: Vec<_> = due.extract_if(.., |_, at| *at <= now).map(|(file, _)| file).collect();
                // If a file was renamed, the folder wasn't emptied.
                let has_new = files.iter().any(|it| self.files.is_new(it));
                let mut events: Vec<_> = files.iter().filter_map(|it| self.files.look(it, now)).collect();
                if has_new || self.files.judged_at().is_some_and(|it| it <= now) {
                    events.extend(self.files.judge());
                }
                events
            }
            Due::Everything(at) if *at > Instant::now() => Vec::new(),
            Due::Everything(_) => self.start_over(),
        }
    }

    /// The folder has vanished. Its apps keep running: they are stopped by deleting their files. This is
    /// reported once, and checked until the folder is back.
    fn start_over(&mut self) -> Vec<FileEvent> {
        let opened = watch(&self.folder).and_then(|inotify| Ok((inotify, self.files.scan()?)));
        match opened {
            Ok((inotify, events)) => {
                if std::mem::replace(&mut self.is_lost, false) {
                    tracing::info!(folder = %self.folder.display(), "watching the folder of the apps' files again");
                }
                self.inotify = inotify;
                self.due = Due::Files(BTreeMap::new());
                events
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    let folder = self.folder.display();
                    tracing::error!(%folder, %error, "cannot watch the folder of the apps' files: retrying");
                }
                self.due = Due::Everything(Instant::now() + LOOK_FOR_FOLDER);
                self.files.vanished()
            }
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Due {
    /// When to check next. Far in the future if there is nothing to check.
    fn first(&self) -> Instant {
        let first = match self {
            Self::Files(files) => files.values().min().copied(),
            Self::Everything(at) => Some(*at),
        };
        first.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }

    fn note(&mut self, folder: &Path, noticed: io::Result<Vec<FolderEvent>>) {
        let at = Instant::now() + QUIET;
        for noticed in noticed.unwrap_or_else(|_| vec![FolderEvent::Lost]) {
            match (noticed, &mut *self) {
                (FolderEvent::Created(file), Self::Files(_)) if is_being_written(&folder.join(&file)) => {}
                (FolderEvent::Created(file) | FolderEvent::Changed(file), Self::Files(files)) => {
                    files.insert(file, at);
                }
                (FolderEvent::Lost, Self::Files(_)) => *self = Self::Everything(at),
                (_, Self::Everything(_)) => {}
            }
        }
    }
}

/// A change reported by inotify.
#[derive(Debug)]
enum FolderEvent {
    /// A new name. The file may still be empty.
    Created(OsString),
    /// A file was written and closed, touched, renamed or deleted.
    Changed(OsString),
    /// The folder itself is gone, or there were too many changes to report.
    Lost,
}

/// A regular file that was just created will be closed after writing, which is reported too. A symbolic or
/// hard link won't.
fn is_being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.nlink() == 1)
}

fn watch(folder: &Path) -> io::Result<AsyncFd<Inotify>> {
    let inotify = Inotify::init()?;
    let files = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::ATTRIB
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE;
    let folder_itself = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
    inotify.watches().add(folder, files | folder_itself)?;
    readiness::inotify(inotify)
}

async fn read_events(inotify: &mut AsyncFd<Inotify>) -> io::Result<Vec<FolderEvent>> {
    let mut buffer = [0; 4096];
    loop {
        let mut readable = inotify.readable_mut().await?;
        let read = readable.try_io(|inotify| {
            let events = inotify.get_mut().read_events(&mut buffer)?;
            Ok(events.filter_map(|event| folder_event(event.mask, event.name)).collect())
        });
        match read {
            Ok(noticed) => return noticed,
            Err(_would_block) => {}
        }
    }
}

fn folder_event(mask: EventMask, name: Option<&OsStr>) -> Option<FolderEvent> {
    let lost = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
    match name.map(OsStr::to_owned) {
        _ if mask.intersects(lost) => Some(FolderEvent::Lost),
        Some(name) if mask.contains(EventMask::CREATE) => Some(FolderEvent::Created(name)),
        Some(name) => Some(FolderEvent::Changed(name)),
        None => None,
    }
}

#[cfg(test)]
mod tests;
