//! What all calls of the app share.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;

use super::event_loop::Loop;
use crate::executor::failure::Failures;
use crate::executor::load::LoopLoad;
use crate::executor::shutdown::Shutdown;
use crate::link::active::ActiveRequest;
use crate::link::requests::Requests;
use crate::python::driver::Driver;

/// The code of a WebSocket that a restart closes (RFC 6455, registry of close codes).
const RESTART: u32 = 1012;

/// The loop, and what the calls report to.
pub(super) struct Shared {
    pub(super) event_loop: Arc<Loop>,
    pub(super) requests: Arc<Requests>,
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) load: Arc<LoopLoad>,
    pub(super) failures: Failures,
    /// Runs what blocks.
    pub(super) driver: Arc<Driver>,
    /// Folders whose files frontd sends.
    pub(super) sendfile: Vec<PathBuf>,
    /// Called when a call has ended, with its token.
    pub(super) ended: Box<dyn Fn(u64) + Send + Sync>,
}

impl Shared {
    /// A message of a WebSocket was received or sent.
    pub(super) fn count_message(&self) {
        self.load.count_message();
    }

    /// Whether frontd sends the file at `path`. It opens it beneath the folder, so a name that leads out is left to it, too.
    pub(super) fn is_sent_by_frontd(&self, path: &Path) -> bool {
        let is_plain = !path.components().any(|it| it == Component::ParentDir);
        is_plain && self.sendfile.iter().any(|it| path.starts_with(it))
    }

    /// Whether this worker has cancelled its requests.
    pub(super) fn aborts(&self) -> bool {
        self.shutdown.subscribe().borrow().aborts_requests
    }

    /// Closes all open WebSockets, since this worker ends.
    pub(super) fn close_sockets(&self) {
        for active in self.requests.sockets() {
            close(&active);
        }
    }

    /// Closes a WebSocket that was accepted after all were closed.
    pub(super) fn close_if_too_late(&self, active: &ActiveRequest) {
        if self.shutdown.subscribe().borrow().closes_sockets {
            close(active);
        }
    }
}

fn close(active: &ActiveRequest) {
    if let Some(websocket) = active.websocket() {
        websocket.end(active.id, RESTART, "service restart", &active.session);
        active.websocket_changed();
    }
}

/// Whether an exception only says that the task was cancelled.
pub(super) fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).name().is_ok_and(|it| it == "CancelledError")
}
