//! Buffers bodies for slow readers: a little in memory, the rest in unnamed files.
//!
//! [`SpooledBody`] is a request body that is read completely before a worker is requested, so that a slow
//! client occupies no worker and each try can read the body again. [`channel`] carries a response that a
//! worker streams and a client may read slowly.
//!
//! The files are unnamed (`O_TMPFILE`), so nothing is left behind however frontd ends. They are read and
//! written on separate threads: the page cache is fast, but a full disk queue would stall all clients of the
//! shard.

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

pub(crate) use body::{COUNTED, INLINE_MAX, SpoolBodyError, SpooledBody, SpooledReader};
pub(crate) use fifo::{ChannelLimits, PushError, SpoolReader, channel};

use crate::disk::Disk;
use crate::limits::clients::Share;
use crate::limits::quota::{Quota, Shares};

/// Bytes that each file may hold in addition to all limits, so that each response makes progress, if slowly.
const FREE_BYTES: u64 = 64 * 1024;

/// Threads per shard. Each keeps its own heap of body chunks: without a limit, 25 threads held 145 MB under a
/// mixed load, and their memory kept growing.
const THREADS: usize = 4;

/// Maximum number of reads and writes that wait for a thread.
const MAX_WAITING: usize = 4096;

/// The folder of spool files, and the usage of each app. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Bytes that one app may use.
    per_app: u64,
    disk: Disk,
    apps: Shares<Arc<str>, Quota>,
}

impl SpoolFolder {
    /// Creates the folder if it doesn't exist, readable only by its owner. The files of one app may hold
    /// `per_app` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can't be created.
    pub(crate) fn create(path: &Path, per_app: u64, shards: NonZeroUsize) -> Result<Self, SpoolError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let disk = Disk::new("spool", THREADS * shards.get(), MAX_WAITING);
        let folder = Self(Arc::new(Folder { path: path.to_owned(), per_app, disk, apps: Shares::new() }));
        made.map_err(|source| folder.error("create", source))?;
        Ok(folder)
    }

    fn error(&self, action: &'static str, source: io::Error) -> SpoolError {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Hint::Space,
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => Hint::Folder,
            _ => Hint::Disk,
        };
        SpoolError { action, folder: self.clone(), hint, source }
    }
}

/// Whom spooled bodies are charged to: the app, the client's address, and the total.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) folder: SpoolFolder,
    pub(crate) app: Arc<str>,
    pub(crate) client: Arc<Share>,
    /// Data in memory counts against the client's connection.
    pub(crate) memory: Arc<Quota>,
}

impl Account {
    fn quotas(&self) -> Quotas {
        let Folder { per_app, apps, .. } = &*self.folder.0;
        let app = apps.of(Arc::clone(&self.app), || Quota::new(*per_app));
        Quotas { app, client: Arc::clone(&self.client.spool) }
    }

    /// The error if a limit of the spool is reached.
    fn full(&self, hint: Hint) -> SpoolError {
        let source = io::Error::new(io::ErrorKind::QuotaExceeded, "the spool is full");
        SpoolError { action: "write", folder: self.folder.clone(), hint, source }
    }
}

/// The quotas that a file's bytes count against.
#[derive(Debug)]
struct Quotas {
    app: Arc<Quota>,
    client: Arc<Quota>,
}

impl Quotas {
    /// Takes up to `bytes` of what is left and returns how many were taken.
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

    /// Waits until something can be taken.
    async fn room(&self) {
        while self.app.is_full() || self.client.is_full() {
            self.app.room().await;
            self.client.room().await;
        }
    }

    /// Which limit is reached.
    fn hint(&self) -> Hint {
        if self.app.is_used_up() {
            Hint::App
        } else if self.client.is_used_up() {
            Hint::Client
        } else {
            Hint::Limit
        }
    }
}

/// Spooled data couldn't be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{action} a spool file in {}: {source}; {hint}", .folder.0.path.display())]
pub(crate) struct SpoolError {
    action: &'static str,
    folder: SpoolFolder,
    hint: Hint,
    source: io::Error,
}

impl SpoolError {
    /// Whether retrying helps once other requests have finished.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.hint, Hint::Limit | Hint::App | Hint::Client | Hint::Files)
    }

    /// Whether retrying helps once other requests from the client's address have finished.
    pub(crate) fn is_of_client(&self) -> bool {
        matches!(self.hint, Hint::Client)
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Hint {
    #[error("raise `limits.spool` in frontd.toml if the disk has enough space")]
    Limit,
    #[error("the app has used its share: raise `limits.spool_per_app` in frontd.toml if it needs more")]
    App,
    #[error(
        "the client's address has used its share: raise `limits.spool_per_client` in frontd.toml if it needs more"
    )]
    Client,
    #[error("too many files are open for clients: raise LimitNOFILE")]
    Files,
    #[error("free some space there, or set `spool` in frontd.toml to a folder on a larger disk")]
    Space,
    #[error("allow frontd to write to this folder, or set `spool` in frontd.toml to another one")]
    Folder,
    #[error("check the disk, or set `spool` in frontd.toml to a folder on another one")]
    Disk,
}
