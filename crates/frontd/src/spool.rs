//! Holds bodies whose reader is slow: a little in memory, the rest in files without a name.
//!
//! [`SpooledBody`] is a request body read to its end before a worker is asked, so that no worker is bound to a
//! slow client, and every worker that is tried reads it anew. [`channel`] carries a response that a
//! worker streams and a client may take slowly.
//!
//! The files have no name (`O_TMPFILE`), so nothing is left behind however frontd ends. Their reads
//! and writes are given to tokio's blocking threads: the page cache is fast, but a full disk queue
//! would stall every client of the shard.

mod body;
mod fifo;
mod file;
#[cfg(test)]
mod testing;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use body::{SpoolBodyError, SpooledBody, SpooledReader};
pub(crate) use fifo::{ChannelLimits, PushError, SpoolReader, channel};

/// Where the files are; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFolder(Arc<Path>);

impl SpoolFolder {
    /// Makes the folder when it is not there, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, SpoolError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let folder = Self(path.into());
        made.map_err(|source| folder.error("create", source))?;
        Ok(folder)
    }

    fn error(&self, action: &'static str, source: io::Error) -> SpoolError {
        let cure = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cure::Space,
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => Cure::Folder,
            _ => Cure::Disk,
        };
        SpoolError { action, folder: self.clone(), cure, source }
    }
}

/// The disk could not hold or give back what was spooled.
#[derive(Debug, thiserror::Error)]
#[error("{action} a spool file in {}: {source}; {cure}", .folder.0.display())]
pub(crate) struct SpoolError {
    action: &'static str,
    folder: SpoolFolder,
    cure: Cure,
    source: io::Error,
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Cure {
    #[error("free some space there, or set `spool` in frontd.toml to a folder on a larger disk")]
    Space,
    #[error("make it a folder that frontd may write to, or set `spool` in frontd.toml to one")]
    Folder,
    #[error("check the disk, or set `spool` in frontd.toml to a folder on another")]
    Disk,
}
