//! One file without a name, read and written on tokio's blocking threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{SpoolError, SpoolFolder};

/// Deleted with its last clone, for it has no name.
#[derive(Clone, Debug)]
pub(super) struct SpoolFile {
    file: Arc<Handed>,
    folder: SpoolFolder,
}

/// A file that is closed on a blocking thread: to free the blocks of a large one takes milliseconds.
#[derive(Debug)]
struct Handed(Option<File>);

/// A read on its way.
pub(super) type Reading = JoinHandle<Result<Bytes, SpoolError>>;

impl SpoolFile {
    pub(super) async fn create(folder: &SpoolFolder) -> Result<Self, SpoolError> {
        let path = folder.0.clone();
        let made = spawn_blocking(move || tempfile::tempfile_in(path)).await;
        let file = flatten(made).map_err(|error| folder.error("create", error))?;
        Ok(Self { file: Arc::new(Handed(Some(file))), folder: folder.clone() })
    }

    /// Writes all of `data` at offset `at`.
    pub(super) async fn write(&self, at: u64, data: Bytes) -> Result<(), SpoolError> {
        let file = self.file.clone();
        let written = spawn_blocking(move || file.get()?.write_all_at(&data, at)).await;
        flatten(written).map_err(|error| self.folder.error("write", error))
    }

    /// Reads exactly `len` bytes from offset `at`.
    pub(super) fn read(&self, at: u64, len: usize) -> Reading {
        let this = self.clone();
        spawn_blocking(move || {
            let mut data = vec![0; len];
            let read = this.file.get().and_then(|file| file.read_exact_at(&mut data, at));
            read.map_err(|error| this.folder.error("read", error))?;
            Ok(Bytes::from(data))
        })
    }

    /// What became of a read.
    pub(super) fn outcome(
        &self,
        read: Result<Result<Bytes, SpoolError>, tokio::task::JoinError>,
    ) -> Result<Bytes, SpoolError> {
        read.unwrap_or_else(|stopped| Err(self.folder.error("read", stopped.into())))
    }
}

impl Handed {
    /// The file, which is there until the drop.
    fn get(&self) -> io::Result<&File> {
        self.0.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let file = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// A blocking task that did not end is a runtime that stops.
fn flatten<T>(joined: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    joined.unwrap_or_else(|stopped| Err(stopped.into()))
}
