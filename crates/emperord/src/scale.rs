//! Writes the number of workers into a vassal file.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use config::{Diagnostics, Source};
use tempfile::NamedTempFile;
use vassal::{SetWorkersError, Vassal};

/// Why the number was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScaleError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] Diagnostics),
    /// The number cannot be put into its text.
    #[error("set the number of workers in {}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SetWorkersError,
    },
    /// The file cannot be replaced.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Sets `workers` in the file, and leaves all else as it is. A file that says so already is not touched.
///
/// # Errors
/// When the file cannot be read, edited or replaced; it is as before then.
pub(crate) fn write(path: &Path, workers: u32) -> Result<(), ScaleError> {
    let text = Source::read(path)?.text;
    let edited = Vassal::set_workers(&text, workers)
        .map_err(|source| ScaleError::Edit { path: path.to_owned(), source })?;
    match edited == text {
        true => Ok(()),
        false => replace(path, &edited).map_err(|source| ScaleError::Write { path: path.to_owned(), source }),
    }
}

/// At once, with the owner and mode that the file has; a link stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let before = fs::metadata(&path)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(before.permissions())?;
    // Only root may give files away; anyone else's own file is theirs already.
    if file.as_file().metadata()?.uid() != before.uid() {
        fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_number_is_written_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        fs::write(&path, "# mine\nworkers = 2 # few\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, 5).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\nworkers = 5 # few\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_says_so_already_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        fs::write(&path, "workers = 2\n").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        write(&path, 2).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real"), folder.path().join("blog.toml"));
        fs::write(&path, "workers = 2\n").unwrap();
        symlink(&path, &link).unwrap();
        write(&link, 3).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "workers = 3\n");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog.toml");
        assert!(matches!(write(&path, 2), Err(ScaleError::Read(_))));
        fs::write(&path, "workers = 2\n").unwrap();
        assert!(matches!(write(&path, 0), Err(ScaleError::Edit { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "workers = 2\n");
    }
}
