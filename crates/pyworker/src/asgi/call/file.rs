//! Sends a file that the app names (`http.response.pathsend`), and that frontd may not open.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::prelude::*;

use super::Call;
use crate::asgi::event_loop;

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

impl Call {
    /// Sends the file at `path` as the body. Returns an awaitable that ends once it was read.
    pub(super) fn send_file(self: &Arc<Self>, py: Python<'_>, path: PathBuf) -> PyResult<Py<PyAny>> {
        let file = File::open(&path)?;
        let future = self.shared.event_loop.future(py)?;
        {
            let mut inner = self.inner.lock();
            inner.reply.body(Bytes::new(), true)?;
            inner.reads_file = !inner.reply.is_complete();
            inner.writers.push(future.clone().unbind());
        }
        let call = Arc::clone(self);
        let reads_file = self.inner.lock().reads_file;
        self.shared.driver.spawn(async move {
            if !reads_file {
                return;
            }
            if let Err(error) = call.read_file(file).await {
                let (path, request) = (path.display(), call.active.request_id());
                tracing::error!(%error, %path, %request, "read the file of a response");
                call.inner.lock().reply.fail();
            }
            call.inner.lock().reads_file = false;
            call.notify();
        });
        self.settle_later(py)?;
        event_loop::pending(&future)
    }

    async fn read_file(self: &Arc<Self>, file: File) -> io::Result<()> {
        let mut file = Some(file);
        loop {
            let Some(mut open) = file.take() else { return Ok(()) };
            let (read, piece, open) = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let read = open.read(&mut piece);
                (read, piece, open)
            })
            .await?;
            let mut piece = Bytes::from(piece);
            piece.truncate(read?);
            let more = !piece.is_empty();
            let progress = self.inner.lock().reply.body(piece, more).map_err(io::Error::other)?;
            if progress.flush {
                self.notify();
            }
            // The body's stream was woken by this thread, and is polled by that of the loop.
            self.shared.event_loop.guest.nudge();
            if !more || self.active.is_gone() {
                return Ok(());
            }
            file = Some(open);
            while !self.inner.lock().reply.has_room() {
                if self.active.unless_gone(self.sent.notified()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
