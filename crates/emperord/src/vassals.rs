//! Follows the folder of vassal files: a scan at start, then every change of a file, read and parsed.

mod files;
mod watch;

use std::io;
use std::path::{Path, PathBuf};

use api::VassalName;
use config::Diagnostics;
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
    /// It is not there any more.
    Gone,
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
