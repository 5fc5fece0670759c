//! Follows the folder of vassal files: scans it at the start, then reads and parses each changed file.

mod files;
mod leaving;
mod set_workers;
mod watch;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::VassalName;
use config::Diagnostics;
use serde::{Deserialize, Serialize};
use vassal::Vassal;

pub(crate) use set_workers::{EditError, set_workers};
pub use watch::Vassals;

/// A change of a vassal file.
#[derive(Debug)]
pub struct FileEvent {
    /// The app's name.
    pub name: VassalName,
    /// The file.
    pub path: PathBuf,
    /// The result of reading it.
    pub reading: Reading,
    /// Identifies the text that was read, if any.
    pub digest: Option<String>,
}

/// The result of reading a vassal file.
#[derive(Debug)]
pub enum Reading {
    /// It is new, or its text has changed.
    Edited(Box<Version>),
    /// It was written or touched without changing its text: the operator wants a reload.
    Touched(Box<Version>),
    /// It can't be read, or is invalid.
    Broken(Diagnostics),
    /// It was deleted.
    Gone,
    /// It is missing, but apparently wasn't deleted on purpose: its app keeps serving.
    Missing(Missing),
}

/// Why a missing file doesn't count as deleted. Displayed as a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// All files of the folder disappeared together.
    Emptied,
    /// The folder was replaced by another one, for example by mounting or unmounting a file system.
    Replaced,
    /// The folder doesn't exist, or can't be read.
    Vanished,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emptied => "all files of the folder disappeared together",
            Self::Replaced => "another folder is in the place of the one that had it",
            Self::Vanished => "the folder cannot be read",
        })
    }
}

/// Distinguishes a folder from another one at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderIdentity {
    device: u64,
    inode: u64,
}

impl FolderIdentity {
    /// Returns the identity of the current folder, if it exists.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let it = fs::metadata(folder).ok()?;
        Some(Self { device: it.dev(), inode: it.ino() })
    }
}

/// A valid version of a file.
#[derive(Debug)]
pub struct Version {
    /// Its content, parsed.
    pub vassal: Vassal,
    /// Its text.
    pub text: String,
}

/// Why the folder can't be followed.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", folder.display())]
pub struct FolderError {
    step: &'static str,
    folder: PathBuf,
    source: io::Error,
}

fn failed(step: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> FolderError {
    move |source| FolderError { step, folder: folder.to_owned(), source }
}
