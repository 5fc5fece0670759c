//! A pipe for the log whose reader can be paused by a test.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

/// The reader of the pipe.
#[derive(Debug)]
pub struct LogPipe {
    is_held: Arc<AtomicBool>,
    reader: Thread,
}

impl LogPipe {
    /// Copies the pipe into a file until all writers have closed it.
    ///
    /// # Errors
    /// If the pipe or the file can't be created.
    pub fn into(path: &Path) -> io::Result<(Self, PipeWriter)> {
        let ((from, writer), to) = (io::pipe()?, File::create(path)?);
        let is_held = Arc::new(AtomicBool::new(false));
        let reader = thread::Builder::new().name("log".to_owned()).spawn({
            let is_held = Arc::clone(&is_held);
            move || copy(from, to, &is_held)
        })?;
        Ok((Self { is_held, reader: reader.thread().clone() }, writer))
    }

    /// Stops reading, so that the pipe fills up.
    pub fn hold(&self) {
        self.is_held.store(true, Ordering::Release);
    }

    /// Continues reading.
    pub fn release(&self) {
        self.is_held.store(false, Ordering::Release);
        self.reader.unpark();
    }
}

/// The pipe stays open while it isn't read, as with a hanging reader.
fn copy(mut from: PipeReader, mut to: File, is_held: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            return;
        }
        while is_held.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Drop for LogPipe {
    fn drop(&mut self) {
        self.release();
    }
}
