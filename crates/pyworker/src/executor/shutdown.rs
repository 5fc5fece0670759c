//! What an executor has to know of its worker's shutdown, and the WebSockets that delay it.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

/// Shared by the life of a worker, which decides, and its executor, which acts and counts its WebSockets.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    stage: watch::Sender<Stage>,
    sockets: AtomicU32,
}

/// How far a shutdown is. Each part stays true once it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage {
    /// The worker drains: it gets no more requests.
    pub(crate) is_draining: bool,
    /// Open WebSockets have to be closed, with the code 1012.
    pub(crate) closes_sockets: bool,
    /// Requests that are still running have to be aborted. Only an executor with open WebSockets is told this: otherwise
    /// the process ends.
    pub(crate) aborts_requests: bool,
}

impl Shutdown {
    /// The current stage, and its changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// A WebSocket was accepted.
    pub(crate) fn socket_opened(&self) {
        self.sockets.fetch_add(1, Ordering::Relaxed);
    }

    /// An accepted WebSocket has ended.
    pub(crate) fn socket_closed(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of accepted WebSockets that haven't ended.
    pub(crate) fn open_sockets(&self) -> u32 {
        self.sockets.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.stage.send_modify(|stage| stage.is_draining = true);
    }

    pub(crate) fn close_sockets(&self) {
        self.stage.send_modify(|stage| stage.closes_sockets = true);
    }

    pub(crate) fn abort_requests(&self) {
        self.stage.send_modify(|stage| stage.aborts_requests = true);
    }
}
