//! Sends a file that the app names (`http.response.pathsend`), and that frontd may not open.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::prelude::*;

use super::Http;
use crate::asgi::call::Call;

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

impl Call<Http> {
    /// Sends the file at `path` as the body. Returns a future that is resolved once it was read.
    pub(super) fn send_file<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        path: PathBuf,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let file = File::open(&path)?;
        let reads_file = {
            let Http { reply, reads_file, .. } = &mut self.lock().protocol;
            reply.body(Bytes::new(), true)?;
            *reads_file = !reply.is_complete();
            *reads_file
        };
        let future = self.writer(py)?;
        self.settle_later(py)?;
        if reads_file {
            let call = Arc::clone(self);
            self.shared.driver.spawn(async move {
                if let Err(error) = call.read_file(file).await {
                    let (path, request) = (path.display(), call.active.request_id());
                    tracing::error!(%error, %path, %request, "read the file of a response");
                    call.lock().protocol.reply.fail();
                }
                call.lock().protocol.reads_file = false;
                call.notify();
            });
        }
        Ok(Some(future))
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
            let progress = self.lock().protocol.reply.body(piece, more).map_err(io::Error::other)?;
            if progress.flush {
                self.notify();
            }
            // The body's stream was woken by this thread, and is polled by that of the loop.
            self.shared.event_loop.guest.nudge();
            if !more || self.active.is_gone() {
                return Ok(());
            }
            file = Some(open);
            while !self.lock().protocol.reply.has_room() {
                if self.active.unless_gone(self.signals.sent.notified()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
