//! Follows the folder of vassal files: a scan at start, then every change of a file, read and parsed.

mod files;
mod leaving;
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

pub use watch::Vassals;

/// What became of one vassal file.
#[derive(Debug)]
pub struct FileEvent {
    /// The app's name.
    pub name: VassalName,
    /// The file.
    pub path: PathBuf,
    /// What it says now.
    pub reading: Reading,
}

/// What a vassal file says.
#[derive(Debug)]
pub enum Reading {
    /// It is new, or its text is another.
    Edited(Box<Version>),
    /// The text is what it was, and the file was written or touched: the operator wants a reload.
    Touched(Box<Version>),
    /// It cannot be read, or has mistakes.
    Broken(Diagnostics),
    /// It was deleted.
    Gone,
    /// It is not there any more, and nobody seems to have deleted it: its app serves on.
    Missing(Missing),
}

/// Why a file that is not there is not taken for deleted. Displayed as a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// All files of the folder disappeared together.
    Emptied,
    /// Another folder is in the place of the one that had it, as after a mount or its end.
    Replaced,
    /// The folder is not there, or cannot be read.
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

/// Tells a folder from another one at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderIdentity {
    device: u64,
    inode: u64,
}

impl FolderIdentity {
    /// That of the folder that is there now, if any is.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let it = fs::metadata(folder).ok()?;
        Some(Self { device: it.dev(), inode: it.ino() })
    }
}

/// A version of a file without mistakes.
#[derive(Debug)]
pub struct Version {
    /// What it says.
    pub vassal: Vassal,
    /// As it was written.
    pub text: String,
}

/// Why the folder cannot be followed.
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
