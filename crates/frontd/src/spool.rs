//! Holds bodies whose reader is slow: a little in memory, the rest in files without a name.
//!
//! [`SpooledBody`] is a request body read to its end before a worker is asked, so that no worker is bound to a
//! slow client, and every worker that is tried reads it anew. [`channel`] carries a response that a
//! worker streams and a client may take slowly.
//!
//! The files have no name (`O_TMPFILE`), so nothing is left behind however frontd ends. Their reads
//! and writes are given to threads of the spool's own: the page cache is fast, but a full disk queue
//! would stall every client of the shard.

mod body;
mod fifo;
mod file;
#[cfg(test)]
mod testing;

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use body::{SpoolBodyError, SpooledBody, SpooledReader};
pub(crate) use fifo::{ChannelLimits, PushError, SpoolReader, channel};

use crate::clients::Share;
use crate::disk::Disk;
use crate::quota::{Quota, Shares};

/// What each file may hold beyond all limits, so that every response goes on, if slowly. In bytes.
const FREE: u64 = 64 * 1024;

/// Threads for each shard. Each keeps its own heap of pieces of bodies: without a bound there came to be 25 of them under
/// a mixed load, with 145 MB in all and more with each minute.
const THREADS: usize = 4;

/// Reads and writes that wait for one of them.
const WAITING: usize = 4096;

/// Where the files are, and what each app has of it; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// What one app may have, in bytes.
    per_app: u64,
    disk: Disk,
    apps: Shares<Arc<str>, Quota>,
}

impl SpoolFolder {
    /// Makes the folder when it is not there, readable by its owner only. The files of one app hold `per_app` bytes at
    /// most.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path, per_app: u64, shards: NonZeroUsize) -> Result<Self, SpoolError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let disk = Disk::new("spool", THREADS * shards.get(), WAITING);
        let folder = Self(Arc::new(Folder { path: path.to_owned(), per_app, disk, apps: Shares::new() }));
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

/// On whose account bodies are spooled. What is in the files counts for the app, for the client's address, and in total.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) folder: SpoolFolder,
    pub(crate) app: Arc<str>,
    pub(crate) client: Arc<Share>,
    /// What waits in memory counts for the client's connection.
    pub(crate) memory: Arc<Quota>,
}

impl Account {
    fn quotas(&self) -> Quotas {
        let Folder { per_app, apps, .. } = &*self.folder.0;
        let app = apps.of(Arc::clone(&self.app), || Quota::new(*per_app));
        Quotas { app, client: Arc::clone(&self.client.spool) }
    }

    /// As much is spooled as may be.
    fn full(&self, cure: Cure) -> SpoolError {
        let source = io::Error::new(io::ErrorKind::QuotaExceeded, "the spool is full");
        SpoolError { action: "write", folder: self.folder.clone(), cure, source }
    }
}

/// What a file's bytes are taken of.
#[derive(Debug)]
struct Quotas {
    app: Arc<Quota>,
    client: Arc<Quota>,
}

impl Quotas {
    /// Takes up to `bytes` of what is left; tells how many.
    fn take(&self, bytes: u64) -> u64 {
        let taken = self.app.take_up_to(bytes);
        let granted = self.client.take_up_to(taken);
        self.app.give(taken - granted);
        granted
    }

    /// Gives back what was taken.
    fn give(&self, bytes: u64) {
        self.app.give(bytes);
        self.client.give(bytes);
    }

    /// Waits until there is something to be taken.
    async fn room(&self) {
        while self.app.is_full() || self.client.is_full() {
            self.app.room().await;
            self.client.room().await;
        }
    }

    /// Which limit is reached.
    fn cure(&self) -> Cure {
        if self.app.is_used_up() {
            Cure::App
        } else if self.client.is_used_up() {
            Cure::Client
        } else {
            Cure::Limit
        }
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
        matches!(self.cure, Cure::Limit | Cure::App | Cure::Client | Cure::Files)
    }

    /// Whether it is over when others of the client's address are done.
    pub(crate) fn is_of_client(&self) -> bool {
        matches!(self.cure, Cure::Client)
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Cure {
    #[error("raise `limits.spool` in frontd.toml if the disk has enough space")]
    Limit,
    #[error("the app has its part: raise `limits.spool_per_app` in frontd.toml if it needs more")]
    App,
    #[error(
        "the client's address has its part: raise `limits.spool_per_client` in frontd.toml if it needs more"
    )]
    Client,
    #[error("too many files are open for clients: raise LimitNOFILE")]
    Files,
    #[error("free some space there, or set `spool` in frontd.toml to a folder on a larger disk")]
    Space,
    #[error("let frontd write to this folder, or set `spool` in frontd.toml to another one")]
    Folder,
    #[error("check the disk, or set `spool` in frontd.toml to a folder on another one")]
    Disk,
}
