//! Finds the Python interpreter of an app.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Why there is no interpreter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoInterpreter {
    /// The folder doesn't contain an interpreter.
    #[error(
        "find the interpreter of virtualenv {}: there is no bin/python in it: create it with `python3 -m venv {}`",
        .0.display(), .0.display()
    )]
    NotAVirtualenv(PathBuf),
    /// The virtualenv was created with an interpreter that no longer exists.
    #[error(
        "find the interpreter of virtualenv {}: {}, which it was created with, no longer exists: recreate it with \
         `python3 -m venv --clear {}`, and install its packages",
        folder.display(), interpreter.display(), folder.display()
    )]
    Gone {
        folder: PathBuf,
        /// The target of its links.
        interpreter: PathBuf,
    },
    /// The path doesn't exist.
    #[error("find interpreter {}: it does not exist: set `python` to a virtualenv or an interpreter", .0.display())]
    Missing(PathBuf),
    /// No interpreter is installed.
    #[error("find `python3` in PATH: not found: install it or set `python`")]
    NotInPath,
}

/// Returns the interpreter for `python` (a virtualenv, an interpreter, or empty), for an app in `directory`.
///
/// Symbolic links aren't resolved: Python recognizes a virtualenv by the path of its link.
///
/// # Errors
/// If there is none.
pub(crate) fn find(python: &str, directory: &Path, path: Option<&OsStr>) -> Result<PathBuf, NoInterpreter> {
    if python.is_empty() {
        return in_path(path.unwrap_or_default()).ok_or(NoInterpreter::NotInPath);
    }
    let python = directory.join(python);
    if python.is_dir() {
        return in_virtualenv(&python).ok_or_else(|| no_interpreter(python));
    }
    match python.exists() {
        true => Ok(python),
        false => Err(NoInterpreter::Missing(python)),
    }
}

fn no_interpreter(folder: PathBuf) -> NoInterpreter {
    let bin = folder.join("bin");
    let mut link = bin.join("python");
    // The kernel's limit on symbolic links.
    for _ in 0..40 {
        let Ok(target) = link.read_link() else { break };
        link = bin.join(target);
    }
    match link == bin.join("python") {
        true => NoInterpreter::NotAVirtualenv(folder),
        false => NoInterpreter::Gone { folder, interpreter: link },
    }
}

fn in_path(path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join("python3")).find(|it| it.is_file())
}

fn in_virtualenv(folder: &Path) -> Option<PathBuf> {
    ["bin/python", "bin/python3"].map(|it| folder.join(it)).into_iter().find(|it| it.exists())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn interpreters_are_found_and_links_are_not_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("venv/bin")).unwrap();
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::write(root.join("python3"), "").unwrap();
        symlink(root.join("python3"), root.join("venv/bin/python")).unwrap();

        let path = env::join_paths([root.join("none"), root.to_owned()]).unwrap();
        fs::create_dir_all(root.join("old/bin")).unwrap();
        symlink("python3", root.join("old/bin/python")).unwrap();
        symlink("/gone/python3.9", root.join("old/bin/python3")).unwrap();
        let gone = NoInterpreter::Gone { folder: root.join("old"), interpreter: "/gone/python3.9".into() };
        assert_eq!(find("old", root, Some(&path)), Err(gone));
        let absolute = root.join("python3");
        let rows: [(&str, Result<PathBuf, NoInterpreter>); 6] = [
            ("", Ok(root.join("python3"))),
            ("venv", Ok(root.join("venv/bin/python"))),
            ("venv/bin/python", Ok(root.join("venv/bin/python"))),
            (absolute.to_str().unwrap(), Ok(absolute.clone())),
            ("empty", Err(NoInterpreter::NotAVirtualenv(root.join("empty")))),
            ("gone", Err(NoInterpreter::Missing(root.join("gone")))),
        ];
        for (python, expected) in rows {
            assert_eq!(find(python, root, Some(&path)), expected, "{python}");
        }
        assert_eq!(find("", root, Some(OsStr::new("/nowhere"))), Err(NoInterpreter::NotInPath));
    }
}
