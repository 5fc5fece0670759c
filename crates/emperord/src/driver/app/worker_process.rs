//! The process of a worker, and what it has reported.

use std::time::Instant;

use api::WorkerName;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::memory::PrivateMemory;
use crate::messages::{AttachmentId, Command, Load};
use crate::pidfd::Process;
use crate::spec::Failure;
use crate::state::Serving;

/// The process of a worker.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) process: Process,
    pub(crate) fingerprint: String,
    pub(crate) serving: Option<Serving>,
    pub(crate) attachment: Option<Attachment>,
    /// Whether its interpreter has loaded the worker.
    pub(crate) has_attached: bool,
    pub(crate) load: Load,
    private: PrivateMemory,
    pub(crate) failure: Option<Failure>,
    /// What it reports to be waiting for before it is ready.
    pub(crate) unwell: Option<String>,
    /// Why it was told to drain.
    pub(crate) drain_reason: Option<String>,
}

/// An open control stream.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) id: AttachmentId,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl WorkerProcess {
    pub(crate) fn new(process: Process, fingerprint: String, serving: Option<Serving>) -> Self {
        Self {
            process,
            fingerprint,
            serving,
            attachment: None,
            has_attached: false,
            load: Load::default(),
            private: PrivateMemory::default(),
            failure: None,
            unwell: None,
            drain_reason: None,
        }
    }

    /// Sends a command if the worker is attached. Otherwise it gets its orders when it attaches again.
    pub(crate) fn command(&self, worker: &WorkerName, command: Command) {
        let Some(attachment) = &self.attachment else { return };
        if let Err(TrySendError::Full(command)) = attachment.commands.try_send(command) {
            let order = command.name();
            // If it was told to exit, signals will follow.
            tracing::warn!(%worker, order, "cannot notify worker: it doesn't read its messages");
        }
    }

    /// The memory that counts for `recycle.memory`, in bytes.
    pub(crate) fn counted_memory(&mut self, limit: Option<u64>, now: Instant) -> u64 {
        let identity = self.process.identity();
        self.private.counted(self.load, limit, now, || identity.private_memory())
    }

    pub(crate) fn is_attached_by(&self, id: AttachmentId) -> bool {
        self.attachment.as_ref().is_some_and(|it| it.id == id)
    }
}
