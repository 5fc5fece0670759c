//! Reads the Python stack that a worker has left if it crashed or hung while it started. Only in development: otherwise
//! a worker writes it to its log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use api::WorkerName;
use config::emperord::Mode;
use rustix::fs::OFlags;

use super::Driver;

/// The largest size of a file, in bytes. faulthandler writes at most a hundred frames of each thread.
const LIMIT: u64 = 64 << 10;

impl Driver {
    /// Returns the stack that a worker has left, in development. Empty if there is none.
    pub(super) fn take_stack(&self, worker: &WorkerName) -> String {
        match (self.config.mode, self.config.worker_socket(worker)) {
            (Mode::Development, Ok(socket)) => take_stack(&socket),
            _ => String::new(),
        }
    }
}

/// An error with the stack that belongs to it, if there is one.
pub(super) fn with_stack(error: &str, stack: &str) -> String {
    if stack.is_empty() { error.to_owned() } else { format!("{error}\n{stack}") }
}

/// The file that a starting worker with this socket writes its stack into.
fn file_of(socket: &Path) -> PathBuf {
    socket.with_extension("crash")
}

/// Returns the stack of the thread that crashed, without addresses, and removes the file. Empty if there is none.
fn take_stack(socket: &Path) -> String {
    let path = file_of(socket);
    let report = read(&path).unwrap_or_default();
    let _not_there = fs::remove_file(&path);
    stack(&report)
}

/// Reads a file in a folder of the app's user, who could have put anything there.
fn read(path: &Path) -> io::Result<String> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let (it, folder) = (file.metadata()?, fs::metadata(path.parent().unwrap_or(path))?);
    if !it.is_file() || it.nlink() != 1 || it.uid() != folder.uid() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut report = Vec::new();
    file.take(LIMIT).read_to_end(&mut report)?;
    Ok(String::from_utf8_lossy(&report).into_owned())
}

/// The first line, and the Python frames of the thread that crashed. Addresses of threads differ each time, and frames
/// of the import system and of the worker itself are of no use.
fn stack(report: &str) -> String {
    let mut lines = report.lines();
    let Some(first) = lines.next().filter(|it| !it.is_empty()) else { return String::new() };
    let is_current = |line: &&str| line.starts_with("Current thread 0x");
    let frames = lines.skip_while(|it| !is_current(it)).skip(1).take_while(|it| it.starts_with("  "));
    let frames: Vec<_> = frames
        .filter(|it| !["  File \"<frozen ", "  File \"<string>\""].iter().any(|of| it.starts_with(of)))
        .collect();
    match frames.is_empty() {
        true => first.to_owned(),
        false => format!("{first}\n\nCurrent thread (most recent call first):\n{}", frames.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const REPORT: &str = "\
Fatal Python error: Segmentation fault

Thread 0x00007f5c6584ab80 (most recent call first):
  File \"/srv/other.py\", line 1 in wait

Current thread 0x00007f5c6584ab81 [python3] (most recent call first):
  File \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at
  File \"/srv/app.py\", line 2 in <module>
  File \"<frozen importlib._bootstrap>\", line 241 in _call_with_frames_removed
  File \"<string>\", line 39 in <module>

Extension modules: _ctypes (total: 1)
";

    #[test]
    fn only_what_the_developer_needs_is_kept() {
        let expected = "Fatal Python error: Segmentation fault\n\nCurrent thread (most recent call first):\n  File \
                        \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at\n  File \"/srv/app.py\", line \
                        2 in <module>";
        assert_eq!(stack(REPORT), expected);
        assert_eq!(
            stack("Fatal Python error: Aborted\n\n<no Python frame>\n"),
            "Fatal Python error: Aborted"
        );
        for nothing in ["", "\n\n"] {
            assert_eq!(stack(nothing), "");
        }
    }

    #[test]
    fn a_stack_is_read_once_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("blog-1.sock");
        assert_eq!(take_stack(&socket), "");
        fs::write(file_of(&socket), format!("{REPORT}{}", "é".repeat(64 << 10))).unwrap();
        assert!(take_stack(&socket).contains("/srv/app.py"));
        assert_eq!(take_stack(&socket), "");
    }

    #[test]
    fn nothing_but_a_file_of_the_user_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, other) = (folder.path().join("blog-1.sock"), folder.path().join("other"));
        fs::write(&other, REPORT).unwrap();
        symlink(&other, file_of(&socket)).unwrap();
        assert_eq!(take_stack(&socket), "");
        fs::hard_link(&other, file_of(&socket)).unwrap();
        assert_eq!(take_stack(&socket), "");
        assert!(other.exists());
    }
}
