//! Keeps the last lines of the log in a file for `imperium logs`, since `imperium up` has no journal.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::output::{Output, WriteLine};

/// The environment variable that names the file to all processes that share it.
pub const VARIABLE: &str = "IMPERIUM_LOG_COPY";
/// Approximate maximum size, in bytes. Then the file replaces the previous one.
const LIMIT: u64 = 1 << 20;

static PATH: OnceLock<PathBuf> = OnceLock::new();
static OUTPUT: Output = Output::slow(writer, super::missing_line);

/// The path of the previous file of `path`.
#[must_use]
pub fn previous(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Also writes the lines of this process to the file `path`, if it can be opened. Only the first call has an
/// effect.
pub fn keep(path: PathBuf) {
    if open(&path).is_ok() {
        PATH.get_or_init(|| path);
    }
}

/// Like `keep`, with the file that the environment names.
pub(super) fn keep_from_env() {
    if let Some(path) = env::var_os(VARIABLE).filter(|it| !it.is_empty()) {
        keep(path.into());
    }
}

/// Adds a line, if there is a file. Never blocks on the disk: a thread writes it.
pub(super) fn write(line: &[u8]) {
    if PATH.get().is_some() {
        OUTPUT.write(line.to_vec());
    }
}

/// Waits until all lines are in the file, for at most `limit`.
pub(super) fn flush(limit: Duration) {
    if PATH.get().is_some() {
        OUTPUT.flush(limit);
    }
}

/// Creates the writer for this process. A line that can't be written is dropped: stderr has it too.
fn writer() -> WriteLine {
    let mut copy = PATH.get().cloned().map(Copy::new);
    Box::new(move |line| {
        if let Some(copy) = &mut copy {
            let _not_kept = copy.write(line);
        }
        Ok(())
    })
}

/// A file that several processes append to.
struct Copy {
    path: PathBuf,
    file: Option<File>,
}

impl Copy {
    fn new(path: PathBuf) -> Self {
        Self { file: open(&path).ok(), path }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line)?;
        let metadata = file.metadata()?;
        if metadata.size() > LIMIT {
            self.rotate(metadata.ino())?;
        }
        Ok(())
    }

    /// Starts a new file, unless another process has already done so.
    fn rotate(&mut self, full: u64) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|it| it.ino() == full) {
            fs::rename(&self.path, previous(&self.path))?;
        }
        self.file = open(&self.path).ok();
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_and_previous_file_are_bounded_and_lines_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut copies = [1, 2].map(|_| Copy::new(path.clone()));
        let line = [b"x".repeat(4095), b"\n".to_vec()].concat();
        for _ in 0..600 {
            copies.iter_mut().for_each(|it| it.write(&line).unwrap());
        }
        for file in [path.clone(), previous(&path)] {
            let text = fs::read(file).unwrap();
            assert!(!text.is_empty() && text.len() as u64 <= LIMIT + 2 * 4096, "{}", text.len());
            assert!(text.chunks(4096).all(|it| it == line));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
