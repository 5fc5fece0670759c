//! Ensures that only one emperord uses a state folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Held as long as this process uses the folder. The kernel releases it when the process exits.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another emperord uses it.
    #[error(
        "lock {}: another emperord uses this folder (pid {}): stop it first, or choose another root",
        path.display(), pid.as_deref().unwrap_or("unknown")
    )]
    Taken {
        /// The lock file.
        path: PathBuf,
        /// The pid that the other process wrote into it.
        pid: Option<String>,
    },
    /// The kernel refuses.
    #[error("lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

impl Lock {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// If another process holds the lock, or if the folder or file can't be created.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("emperord.lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        fs::write(&path, format!("{}\n", std::process::id())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn taken(path: PathBuf) -> LockError {
    let pid = fs::read_to_string(&path).ok().map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
    LockError::Taken { path, pid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_emperord_is_refused_until_the_first_has_exited() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let refusal = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(pid {})", std::process::id())), "{refusal}");
        drop(first);
        Lock::take(folder.path()).unwrap();
    }
}
