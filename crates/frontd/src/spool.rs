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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use body::{SpoolBodyError, SpooledBody, SpooledReader};
pub(crate) use fifo::{ChannelLimits, PushError, SpoolReader, channel};

/// What each file may hold beyond the folder's limit, so that every response goes on, if slowly. In bytes.
const FREE: u64 = 64 * 1024;

/// Where the files are, and how much there may be in all of them; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// In bytes.
    limit: u64,
    used: AtomicU64,
}

impl SpoolFolder {
    /// Makes the folder when it is not there, readable by its owner only. Its files hold `limit` bytes at most.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path, limit: u64) -> Result<Self, SpoolError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let folder = Self(Arc::new(Folder { path: path.to_owned(), limit, used: AtomicU64::new(0) }));
        made.map_err(|source| folder.error("create", source))?;
        Ok(folder)
    }

    /// Takes up to `bytes` of what is left of the limit; tells how many.
    fn take(&self, bytes: u64) -> u64 {
        let Folder { limit, used, .. } = &*self.0;
        let more = |used: u64| Some(used.saturating_add(bytes).min((*limit).max(used)));
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(before) => bytes.min(limit.saturating_sub(before)),
            Err(_) => 0,
        }
    }

    /// Gives back what was taken.
    fn give(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// As much is spooled as may be.
    fn full(&self) -> SpoolError {
        let source = io::Error::new(io::ErrorKind::QuotaExceeded, "all that may be spooled is");
        SpoolError { action: "write", folder: self.clone(), cure: Cure::Limit, source }
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
#[error("{action} a spool file in {}: {source}; {cure}", .folder.0.path.display())]
pub(crate) struct SpoolError {
    action: &'static str,
    folder: SpoolFolder,
    cure: Cure,
    source: io::Error,
}

impl SpoolError {
    /// Whether it is over when others are done.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.cure, Cure::Limit)
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Cure {
    #[error("raise `limits.spool` in frontd.toml if its disk has the room")]
    Limit,
    #[error("free some space there, or set `spool` in frontd.toml to a folder on a larger disk")]
    Space,
    #[error("make it a folder that frontd may write to, or set `spool` in frontd.toml to one")]
    Folder,
    #[error("check the disk, or set `spool` in frontd.toml to a folder on another")]
    Disk,
}
