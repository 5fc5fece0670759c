//! An unnamed file, read and written on the threads of the spool.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Account, FREE_BYTES, Hint, Quotas, SpoolError, SpoolFolder};
use crate::disk::{Disk, DiskError, Job};
use crate::limits::quota::Held;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

/// An unnamed file, deleted with its last clone.
#[derive(Clone, Debug)]
pub(super) struct SpoolFile {
    file: Arc<DeferredClose>,
    folder: SpoolFolder,
}

/// A file that is closed on a disk thread: freeing the blocks of a large file takes milliseconds.
#[derive(Debug)]
struct DeferredClose {
    open: Option<Open>,
    disk: Disk,
    granted: Arc<Allocation>,
}

/// An open file. Its usage is given back once it is closed.
#[derive(Debug)]
struct Open {
    file: File,
    _granted: Arc<Allocation>,
    _slot: Held,
}

/// The quota that a file has taken.
#[derive(Debug)]
struct Allocation {
    quotas: Quotas,
    /// The offset up to which it may be written.
    end: AtomicU64,
}

/// A read in progress.
pub(super) type Reading = Job<Result<Bytes, SpoolError>>;

impl SpoolFile {
    /// Creates a file. Fails if too many are open for the client.
    pub(super) async fn create(account: &Account) -> Result<Self, SpoolError> {
        let slot = account.client.files.take_one().ok_or_else(|| account.full(Hint::Files))?;
        Self::create_in(account, slot).await
    }

    /// Creates a file in a slot that was taken before.
    pub(super) async fn create_in(account: &Account, slot: Held) -> Result<Self, SpoolError> {
        let folder = &account.folder;
        let path = folder.0.path.clone();
        let made = folder.0.disk.run(move || tempfile::tempfile_in(path)).await;
        let file = flatten(made).map_err(|error| folder.error("create", error))?;
        let granted = Arc::new(Allocation { quotas: account.quotas(), end: AtomicU64::new(FREE_BYTES) });
        let open = Some(Open { file, _granted: Arc::clone(&granted), _slot: slot });
        let file = DeferredClose { open, disk: folder.0.disk.clone(), granted };
        Ok(Self { file: Arc::new(file), folder: folder.clone() })
    }

    /// How many of `len` bytes at offset `at` may be written under all limits. Must only be called by one
    /// writer.
    pub(super) fn room(&self, at: u64, len: usize) -> usize {
        let Allocation { quotas, end: granted } = &*self.file.granted;
        let before = granted.load(Ordering::Relaxed);
        let end = at.saturating_add(len as u64);
        let taken = quotas.take(end.saturating_sub(before));
        granted.store(before + taken, Ordering::Relaxed);
        let room = (before + taken).saturating_sub(at);
        usize::try_from(room).map_or(len, |room| room.min(len))
    }

    /// Waits until no limit is reached any more.
    pub(super) async fn freed(&self) {
        self.file.granted.quotas.room().await;
    }

    /// Which limit is reached.
    pub(super) fn hint(&self) -> Hint {
        self.file.granted.quotas.hint()
    }

    /// Writes all of `data` at offset `at`.
    pub(super) async fn write(&self, at: u64, data: Bytes) -> Result<(), SpoolError> {
        let file = self.file.clone();
        let written = self.file.disk.run(move || file.get()?.write_all_at(&data, at)).await;
        flatten(written).map_err(|error| self.folder.error("write", error))
    }

    /// Reads exactly `len` bytes from offset `at`.
    pub(super) fn read(&self, at: u64, len: usize) -> Reading {
        let this = self.clone();
        self.file.disk.run(move || {
            let read = this.file.get().and_then(|file| read_exact_at(file, at, len));
            read.map(Bytes::from).map_err(|error| this.folder.error("read", error))
        })
    }

    /// Converts the result of a read.
    pub(super) fn outcome(
        &self,
        read: Result<Result<Bytes, SpoolError>, DiskError>,
    ) -> Result<Bytes, SpoolError> {
        read.unwrap_or_else(|stopped| Err(self.folder.error("read", stopped.into())))
    }
}

impl DeferredClose {
    /// The file, which exists until drop.
    fn get(&self) -> io::Result<&File> {
        self.open.as_ref().map(|it| &it.file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for DeferredClose {
    fn drop(&mut self) {
        self.disk.close(self.open.take());
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.quotas.give(self.end.load(Ordering::Relaxed) - FREE_BYTES);
    }
}

/// Like [`FileExt::read_exact_at`], without filling the buffer with zeros first.
fn read_exact_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(len);
    while data.len() < len {
        let from = at + data.len() as u64;
        match pread(file, spare_capacity(&mut data), from) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have returned more room than requested.
    data.truncate(len);
    Ok(data)
}

/// Converts the result of a job.
fn flatten<T>(joined: Result<io::Result<T>, DiskError>) -> io::Result<T> {
    joined.unwrap_or_else(|stopped| Err(stopped.into()))
}
