//! What the tests of both spools share.

use tempfile::TempDir;

use super::SpoolFolder;

pub(super) const KIB: usize = 1024;

/// A folder that did not exist before, and where it is.
pub(super) fn folder() -> (TempDir, SpoolFolder) {
    let temp = TempDir::new().unwrap();
    let folder = SpoolFolder::create(&temp.path().join("made/spool"), u64::MAX).unwrap();
    (temp, folder)
}

/// Bytes that tell their place.
pub(super) fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}
