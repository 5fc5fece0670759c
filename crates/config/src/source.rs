//! Reads a whole text file of bounded size.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;

use crate::diagnostics::{Diagnostics, Location, Problem, Wrong};

/// Maximum size of a file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file, and its path for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the caller gave it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be opened or read, isn't a regular file, is larger than
    /// [`MAX_FILE_BYTES`], or isn't UTF-8.
    pub fn read(path: &Path) -> Result<Self, Diagnostics> {
        let refuse = |message: String| Diagnostics::from(Problem::of_file(path, message));
        let bytes = read_bounded(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| refuse(not_utf8(&error)))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Reads a file, if it exists.
    pub(crate) fn read_if_there(path: &Path) -> Result<Option<Self>, Diagnostics> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::read(path).map(Some),
        }
    }

    /// A problem of a part of the text, with the line that `shown` has for it.
    pub(crate) fn problem(
        &self,
        shown: &Arc<NamedSource<String>>,
        span: Range<usize>,
        wrong: Wrong,
    ) -> Problem {
        let (line, column) = self.position(span.start);
        Problem::at(&self.path, Location { source: Arc::clone(shown), span, line, column }, wrong)
    }

    /// The line and column of a byte offset, both starting at 1. Columns count characters.
    pub(crate) fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text[..self.text.floor_char_boundary(byte)].trim_start_matches(BYTE_ORDER_MARK);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Checked before opening, since opening a FIFO would block.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("isn't valid UTF-8 in line {line}: save it as UTF-8")
}
