//! Remembers the files of the folder as last seen, so that each change is reported once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::VassalName;
use config::{Diagnostics, Source};
use tokio::time::Instant;
use vassal::{Vassal, name_of, text_digest};

use super::leaving::Leaving;
use super::{FileEvent, FolderIdentity, Missing, Reading, Version};

/// The files of one folder.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// The identity of the folder that was last read.
    identity: Option<FolderIdentity>,
    seen: BTreeMap<VassalName, Seen>,
    /// Files that were reported as missing.
    missing: BTreeMap<VassalName, Missing>,
    leaving: Leaving,
    times: Times,
}

/// Whether a changed modification time of a file is a request for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    OfThisFolder,
    OfAnotherFolder,
}

/// What is compared to notice a change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    /// The text, or the error of reading it.
    content: Result<String, String>,
    env_file: Option<EnvFile>,
}

/// The file that `env_file` names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EnvFile {
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl EnvFile {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), modified: modified(path).ok() }
    }

    fn has_changed(&self) -> bool {
        *self != Self::at(&self.path)
    }
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            identity: None,
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            leaving: Leaving::default(),
            times: Times::OfThisFolder,
        }
    }

    /// Compares all files with what was last seen.
    pub(super) fn scan(&mut self) -> io::Result<Vec<FileEvent>> {
        let mut names: BTreeSet<OsString> =
            fs::read_dir(&self.folder)?.map(|it| it.map(|it| it.file_name())).collect::<io::Result<_>>()?;
        names.extend(self.seen.keys().map(|name| file_of(name).into()));
        let identity = FolderIdentity::of(&self.folder);
        let is_another = self.identity.is_some() && identity != self.identity;
        self.identity = identity;
        self.times = if is_another { Times::OfAnotherFolder } else { Times::OfThisFolder };
        let there: Vec<_> = names.iter().filter_map(|name| self.look(name, Instant::now())).collect();
        self.times = Times::OfThisFolder;
        let mut events = match is_another {
            true => self.report_missing(Missing::Replaced),
            false => self.judge(),
        };
        if !is_another {
            events.extend(self.deleted_while_away());
        }
        events.extend(there);
        Ok(events)
    }

    /// The folder can't be read. Reports each file as missing, once.
    pub(super) fn vanished(&mut self) -> Vec<FileEvent> {
        let names: Vec<_> = self.seen.keys().cloned().collect();
        names.into_iter().for_each(|name| self.leaving.note(name, Instant::now()));
        self.report_missing(Missing::Vanished)
    }

    /// Whether the folder was replaced since it was last read.
    pub(super) fn is_another_folder(&self) -> bool {
        FolderIdentity::of(&self.folder) != self.identity
    }

    /// When to decide about files that have left.
    pub(super) fn judged_at(&self) -> Option<Instant> {
        self.leaving.due()
    }

    /// Reports the files that have left: as deleted, or as missing if all left together.
    pub(super) fn judge(&mut self) -> Vec<FileEvent> {
        let left = self.leaving.take();
        let remaining = self.seen.keys().filter(|it| !left.contains(it)).count();
        let reading = |name: VassalName, reading| FileEvent {
            path: self.folder.join(file_of(&name)),
            name,
            reading,
            digest: None,
        };
        match remaining == 0 && left.len() >= 2 {
            true => {
                left.iter().for_each(|name| self.leaving.note(name.clone(), Instant::now()));
                self.report_missing(Missing::Emptied)
            }
            false => {
                let events = left.iter().map(|name| reading(name.clone(), Reading::Gone)).collect();
                self.seen.retain(|name, _| !left.contains(name));
                events
            }
        }
    }

    fn report_missing(&mut self, why: Missing) -> Vec<FileEvent> {
        let left = self.leaving.take();
        self.seen.retain(|name, _| !left.contains(name));
        self.missing.extend(left.iter().map(|name| (name.clone(), why)));
        let event = |name: VassalName| FileEvent {
            path: self.folder.join(file_of(&name)),
            name,
            reading: Reading::Missing(why),
            digest: None,
        };
        left.into_iter().map(event).collect()
    }

    /// The same folder is back: files that it lacks were deleted, unless it is empty.
    fn deleted_while_away(&mut self) -> Vec<FileEvent> {
        if self.seen.is_empty() {
            return Vec::new();
        }
        let deleted = self.missing.extract_if(.., |_, why| *why == Missing::Vanished);
        let folder = &self.folder;
        deleted
            .map(|(name, _)| FileEvent {
                path: folder.join(file_of(&name)),
                name,
                reading: Reading::Gone,
                digest: None,
            })
            .collect()
    }

    /// Files that depend on changes outside of the folder: symbolic links whose target has another
    /// modification time, and files whose `env_file` has changed.
    pub(super) fn changed_elsewhere(&self) -> Vec<OsString> {
        // An unreadable folder is reported elsewhere.
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let links = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_symlink()));
        let links = links.filter(|link| self.has_another_time(&link.path())).map(|link| link.file_name());
        let of_env_files =
            self.seen.iter().filter(|(_, it)| it.env_file.as_ref().is_some_and(EnvFile::has_changed));
        links.chain(of_env_files.map(|(name, _)| file_of(name).into())).collect()
    }

    fn has_another_time(&self, path: &Path) -> bool {
        let Some(Ok(name)) = name_of(path) else { return false };
        modified(path).ok() != self.seen.get(&name).and_then(|it| it.modified)
    }

    /// Compares one file with what was last seen.
    ///
    /// If it doesn't exist, it is reported later by [`Self::judge`], at the time of [`Self::judged_at`].
    pub(super) fn look(&mut self, file: &OsString, now: Instant) -> Option<FileEvent> {
        let path = self.folder.join(file);
        let name = match name_of(&path)? {
            Ok(name) => name,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "not an app: rename the file");
                return None;
            }
        };
        let reading = self.compare(&name, &path, now)?;
        let digest = self.seen.get(&name).and_then(|it| it.content.as_deref().ok()).map(text_digest);
        Some(FileEvent { name, path, reading, digest })
    }

    /// Whether a file exists that wasn't seen before.
    pub(super) fn is_new(&self, file: &OsString) -> bool {
        let path = self.folder.join(file);
        matches!(name_of(&path), Some(Ok(name)) if !self.seen.contains_key(&name)) && path.exists()
    }

    fn compare(&mut self, name: &VassalName, path: &Path, now: Instant) -> Option<Reading> {
        let modified = match modified(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.seen.contains_key(name) {
                    self.leaving.note(name.clone(), now);
                }
                return None;
            }
            it => it.ok(),
        };
        self.leaving.is_back(name);
        self.missing.remove(name);
        let source = Source::read(path);
        let content = match &source {
            Ok(source) => Ok(source.text.clone()),
            Err(diagnostics) => Err(diagnostics.to_string()),
        };
        let parsed = source.and_then(|it| Ok((Vassal::parse(path, &it.text)?, it.text)));
        let before = self.seen.get(name);
        let env_file = match &parsed {
            // One that reloads when its own files change is watched with those.
            Ok((vassal, _)) => vassal.env_file.as_deref().filter(|_| !vassal.reload.watch),
            Err(_) => before.and_then(|it| Some(it.env_file.as_ref()?.path.as_path())),
        };
        let env_file = env_file.map(EnvFile::at);
        let now = Seen { modified, content, env_file };
        if before == Some(&now) {
            return None;
        }
        let same_text = before.is_some_and(|it| it.content == now.content);
        self.seen.insert(name.clone(), now);
        if same_text && self.times == Times::OfAnotherFolder {
            return None;
        }
        Some(reading(parsed, same_text))
    }
}

fn file_of(name: &VassalName) -> String {
    format!("{name}.toml")
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn reading(parsed: Result<(Vassal, String), Diagnostics>, same_text: bool) -> Reading {
    match parsed {
        Ok((vassal, text)) if same_text => Reading::Touched(Box::new(Version { vassal, text })),
        Ok((vassal, text)) => Reading::Edited(Box::new(Version { vassal, text })),
        Err(diagnostics) => Reading::Broken(diagnostics),
    }
}
