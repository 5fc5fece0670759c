//! Writes the number of workers into a vassal file.

mod replace;

use std::path::{Path, PathBuf};

use config::{Diagnostics, Source};
use vassal::{SetWorkersError, Vassal};

use self::replace::{ReplaceError, replace};

/// Why the number wasn't written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] Diagnostics),
    /// Its text can't be edited.
    #[error("set the number of workers in {}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: SetWorkersError,
    },
    /// The file can't be replaced without losing something.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ReplaceError,
    },
}

/// Sets `workers` in the file, and keeps everything else. A file that already has this number isn't touched.
///
/// # Errors
/// If the file can't be read, edited or replaced. Then it is unchanged.
pub(crate) fn set_workers(path: &Path, workers: u32) -> Result<(), EditError> {
    let text = Source::read(path)?.text;
    let edited = Vassal::set_workers(&text, workers)
        .map_err(|source| EditError::Edit { path: path.to_owned(), source })?;
    if edited == text {
        return Ok(());
    }
    replace(path, &text, &edited).map_err(|source| EditError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn only_the_number_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        fs::write(&path, "# mine\nworkers = 2 # few\n").unwrap();
        set_workers(&path, 5).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\nworkers = 5 # few\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_already_has_the_number_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        fs::write(&path, "workers = 2\n").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        set_workers(&path, 2).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn write_errors_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        assert!(matches!(set_workers(&path, 2), Err(EditError::Read(_))));
        fs::write(&path, "workers = 2\n").unwrap();
        assert!(matches!(set_workers(&path, 0), Err(EditError::Edit { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "workers = 2\n");
    }
}
