//! What all calls of the app share.

use std::sync::Arc;

use pyo3::prelude::*;

use super::event_loop::Loop;
use crate::executor::failure::Failures;
use crate::executor::load::LoopLoad;
use crate::executor::shutdown::Shutdown;
use crate::link::active::ActiveRequest;
use crate::link::requests::Requests;

/// The code of a WebSocket that a restart closes (RFC 6455, registry of close codes).
const RESTART: u32 = 1012;

/// The loop, and what the calls report to.
pub(super) struct Shared {
    pub(super) event_loop: Arc<Loop>,
    pub(super) requests: Arc<Requests>,
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) load: Arc<LoopLoad>,
    pub(super) failures: Failures,
    /// Called when a call has ended, with its token.
    pub(super) ended: Box<dyn Fn(u64) + Send + Sync>,
}

impl Shared {
    /// A message of a WebSocket was received or sent.
    pub(super) fn count_message(&self) {
        self.load.count_message();
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
