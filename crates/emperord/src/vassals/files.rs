//! The files of the folder as they were last seen, so that each change is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::VassalName;
use config::{Diagnostics, Source};
use vassal::{Vassal, name_of};

use super::{FileEvent, Reading, Version};

/// The files of one folder.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    seen: BTreeMap<VassalName, Seen>,
}

/// What is compared to tell a change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    /// The text, or what was wrong with reading it.
    content: Result<String, String>,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), seen: BTreeMap::new() }
    }

    /// Compares every file with what was seen last.
    pub(super) fn scan(&mut self) -> io::Result<Vec<FileEvent>> {
        let mut names: BTreeSet<OsString> =
            fs::read_dir(&self.folder)?.map(|it| it.map(|it| it.file_name())).collect::<io::Result<_>>()?;
        names.extend(self.seen.keys().map(|name| format!("{name}.toml").into()));
        Ok(names.iter().filter_map(|name| self.look(name)).collect())
    }

    /// The links that lead to a file of another time than was seen last.
    pub(super) fn changed_links(&self) -> Vec<OsString> {
        // A folder that cannot be read is complained of elsewhere.
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let links = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_symlink()));
        links.filter(|link| self.has_another_time(&link.path())).map(|link| link.file_name()).collect()
    }

    fn has_another_time(&self, path: &Path) -> bool {
        let Some(Ok(name)) = name_of(path) else { return false };
        modified(path).ok() != self.seen.get(&name).and_then(|it| it.modified)
    }

    /// Compares one file with what was seen last.
    pub(super) fn look(&mut self, file: &OsString) -> Option<FileEvent> {
        let path = self.folder.join(file);
        let name = match name_of(&path)? {
            Ok(name) => name,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "not an app: rename the file");
                return None;
            }
        };
        let reading = self.compare(&name, &path)?;
        Some(FileEvent { name, path, reading })
    }

    fn compare(&mut self, name: &VassalName, path: &Path) -> Option<Reading> {
        let modified = match modified(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.seen.remove(name).map(|_| Reading::Gone);
            }
            it => it.ok(),
        };
        let source = Source::read(path);
        let content = match &source {
            Ok(source) => Ok(source.text.clone()),
            Err(diagnostics) => Err(diagnostics.to_string()),
        };
        let now = Seen { modified, content };
        let before = self.seen.get(name);
        if before == Some(&now) {
            return None;
        }
        let same_text = before.is_some_and(|it| it.content == now.content);
        self.seen.insert(name.clone(), now);
        Some(read(path, source, same_text))
    }
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn read(path: &Path, source: Result<Source, Diagnostics>, same_text: bool) -> Reading {
    let parsed = source.and_then(|it| Ok((Vassal::parse(path, &it.text)?, it.text)));
    match parsed {
        Ok((vassal, text)) if same_text => Reading::Touched(Box::new(Version { vassal, text })),
        Ok((vassal, text)) => Reading::Edited(Box::new(Version { vassal, text })),
        Err(diagnostics) => Reading::Broken(diagnostics),
    }
}
