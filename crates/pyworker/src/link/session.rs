//! A `Serve` stream, which belongs to one shard of a frontd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::runner::serve_response::Message;
use api::runner::{HandedBack, ServeResponse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Sends messages to the frontd that a request came from.
#[derive(Debug)]
pub(crate) struct Session {
    /// The stream id, chosen by frontd and unique among all streams.
    pub(crate) stream: u64,
    /// The protocol revision of that frontd, from its `Open` message.
    revision: u32,
    /// Whether its connection has something that isn't in the kernel yet.
    waits_to_write: Arc<AtomicBool>,
    /// Unbounded, but frontd gets only a few messages per request.
    out: UnboundedSender<ServeResponse>,
}

impl Session {
    /// Creates a session, and the receiver of the messages to send on its stream.
    pub(crate) fn new(stream: u64, revision: u32) -> (Self, UnboundedReceiver<ServeResponse>) {
        Self::on(stream, revision, Arc::default())
    }

    /// Like `new`, on a connection that tells whether it waits to write.
    pub(crate) fn on(
        stream: u64,
        revision: u32,
        waits_to_write: Arc<AtomicBool>,
    ) -> (Self, UnboundedReceiver<ServeResponse>) {
        let (out, outgoing) = unbounded_channel();
        (Self { stream, revision, waits_to_write, out }, outgoing)
    }

    /// Whether everything that was sent is in the kernel, as far as its connection knows.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.waits_to_write.load(Ordering::SeqCst)
    }

    /// Whether its frontd reports when it has opened a file that a response names.
    pub(crate) fn reports_files(&self) -> bool {
        self.revision >= 1
    }

    /// Whether its frontd can resend the body of a request, from any offset.
    pub(crate) fn resends_bodies(&self) -> bool {
        self.revision >= 1
    }

    /// Queues a message. If the stream broke, it is dropped.
    pub(crate) fn send(&self, message: Message) {
        let _broken = self.out.send(ServeResponse { message: Some(message) });
    }

    /// Hands back requests that haven't been started.
    pub(crate) fn hand_back(&self, ids: Vec<u64>) {
        if !ids.is_empty() {
            self.send(Message::HandedBack(HandedBack { ids }));
        }
    }
}
