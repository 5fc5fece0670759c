//! The worker's socket file, which is removed when the worker exits.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use daemon::uds::ListenError;
use tokio::net::UnixListener;

/// The path and identity of the socket file: another worker of the same name may have replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Binds the socket.
    pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Self), ListenError> {
        let listener = daemon::uds::listen(path)?;
        Ok((listener, Self { path: path.to_owned(), identity: identity(path) }))
    }

    /// Removes the socket file, if it still belongs to this worker.
    pub(crate) fn remove(&self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blog-1.sock");
        let (_first, file) = SocketFile::bind(&path).unwrap();
        let (_second, successor) = SocketFile::bind(&path).unwrap();
        file.remove();
        assert!(path.exists());
        successor.remove();
        assert!(!path.exists());
    }
}
