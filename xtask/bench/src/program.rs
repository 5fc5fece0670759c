//! Finds the programs that the benchmark runs.

use std::path::PathBuf;

/// Finds a program. Debian installs nginx in a folder that isn't in normal users' PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.find_map(|folder| Some(folder.join(program)).filter(|it| it.is_file()))
}
