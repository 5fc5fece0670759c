//! Keeps the last lines of the log in a file, for `imperium logs`: under `imperium up` no journal has them.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::output::{Output, WriteLine};

/// Names the file to all processes that share it.
pub const VARIABLE: &str = "IMPERIUM_LOG_COPY";
/// Bytes in it, about. Then it becomes the former one, of which there is one.
const LIMIT: u64 = 1 << 20;

static PATH: OnceLock<PathBuf> = OnceLock::new();
static OUTPUT: Output = Output::slow(writer, super::not_kept_line);

/// Where the former file of `path` is.
#[must_use]
pub fn former(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Lines of this process go to the file `path` as well, if it can be opened. A second call changes nothing.
pub fn keep(path: PathBuf) {
    if open(&path).is_ok() {
        PATH.get_or_init(|| path);
    }
}

/// As `keep`, if the environment names a file.
pub(super) fn keep_as_told() {
    if let Some(path) = env::var_os(VARIABLE).filter(|it| !it.is_empty()) {
        keep(path.into());
    }
}

/// Adds a line, if there is such a file. Never waits for the disk: a thread writes it.
pub(super) fn write(line: &[u8]) {
    if PATH.get().is_some() {
        OUTPUT.write(line.to_vec());
    }
}

/// Waits until the lines so far are in the file, for `limit` at most.
pub(super) fn flush(limit: Duration) {
    if PATH.get().is_some() {
        OUTPUT.flush(limit);
    }
}

/// What writes the lines of this process. A line that cannot be written is let go: stderr has it.
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
            self.renew(metadata.ino())?;
        }
        Ok(())
    }

    /// Another process may have done so already.
    fn renew(&mut self, full: u64) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|it| it.ino() == full) {
            fs::rename(&self.path, former(&self.path))?;
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
    fn the_file_and_the_former_one_are_bounded_and_lines_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut copies = [1, 2].map(|_| Copy::new(path.clone()));
        let line = [b"x".repeat(4095), b"\n".to_vec()].concat();
        for _ in 0..600 {
            copies.iter_mut().for_each(|it| it.write(&line).unwrap());
        }
        for file in [path.clone(), former(&path)] {
            let text = fs::read(file).unwrap();
            assert!(!text.is_empty() && text.len() as u64 <= LIMIT + 2 * 4096, "{}", text.len());
            assert!(text.chunks(4096).all(|it| it == line));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
