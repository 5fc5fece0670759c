//! Keeps the last lines of the log in a file, for `imperium logs`: under `imperium up` no journal has them.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, RwLock};

/// Names the file to all processes that share it.
pub const VARIABLE: &str = "IMPERIUM_LOG_COPY";
/// Bytes in it, about. Then it becomes the former one, of which there is one.
const LIMIT: u64 = 1 << 20;

static COPY: OnceLock<Copy> = OnceLock::new();

/// A file that several processes append to.
struct Copy {
    path: PathBuf,
    file: RwLock<Option<File>>,
}

/// Where the former file of `path` is.
#[must_use]
pub fn former(path: &Path) -> PathBuf {
    path.with_extension("old")
}

/// Lines of this process go to the file `path` as well. A second call changes nothing.
pub fn keep(path: PathBuf) {
    COPY.get_or_init(|| {
        let file = RwLock::new(open(&path).ok());
        Copy { path, file }
    });
}

/// As `keep`, if the environment names a file.
pub(super) fn keep_as_told() {
    if let Some(path) = env::var_os(VARIABLE).filter(|it| !it.is_empty()) {
        keep(path.into());
    }
}

/// Adds a line, if there is such a file. One that cannot be written is let go: stderr has it.
pub(super) fn write(line: &[u8]) {
    if let Some(copy) = COPY.get() {
        let _not_kept = copy.write(line);
    }
}

impl Copy {
    /// Never waits for a lock, which another thread may have held when this process was forked.
    fn write(&self, line: &[u8]) -> io::Result<()> {
        let is_full = match self.file.try_read().as_deref() {
            Ok(Some(file)) => {
                let mut file: &File = file;
                file.write_all(line)?;
                file.metadata()?.size() > LIMIT
            }
            _ => false,
        };
        if is_full && let Ok(mut file) = self.file.try_write() {
            self.renew(&mut file)?;
        }
        Ok(())
    }

    /// Another process may have done so already.
    fn renew(&self, file: &mut Option<File>) -> io::Result<()> {
        let Some(full) = file else { return Ok(()) };
        let is_current = fs::metadata(&self.path)
            .is_ok_and(|it| Some(it.ino()) == full.metadata().ok().map(|it| it.ino()));
        if is_current {
            fs::rename(&self.path, former(&self.path))?;
        }
        *file = open(&self.path).ok();
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
        let copies = [1, 2].map(|_| Copy { path: path.clone(), file: RwLock::new(open(&path).ok()) });
        let line = [b"x".repeat(4095), b"\n".to_vec()].concat();
        for _ in 0..600 {
            copies.iter().for_each(|it| it.write(&line).unwrap());
        }
        for file in [path.clone(), former(&path)] {
            let text = fs::read(file).unwrap();
            assert!(!text.is_empty() && text.len() as u64 <= LIMIT + 2 * 4096, "{}", text.len());
            assert!(text.chunks(4096).all(|it| it == line));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
