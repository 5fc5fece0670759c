//! One `Serve` stream: one shard of a frontd.

use api::runner::serve_response::Message;
use api::runner::{HandedBack, ServeResponse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The way back to the frontd that a request came from.
#[derive(Debug)]
pub(crate) struct Session {
    /// Chosen by frontd; unique among all streams.
    pub(crate) stream: u64,
    /// What that frontd understands, as its `Open` says.
    revision: u32,
    /// Bounded by what is under way, as frontd gets a few messages for each request at most.
    out: UnboundedSender<ServeResponse>,
}

impl Session {
    /// A session, and what is to be sent on its stream.
    pub(crate) fn new(stream: u64, revision: u32) -> (Self, UnboundedReceiver<ServeResponse>) {
        let (out, outgoing) = unbounded_channel();
        (Self { stream, revision, out }, outgoing)
    }

    /// Whether its frontd says when it has opened a file that a response named.
    pub(crate) fn tells_of_files(&self) -> bool {
        self.revision >= 1
    }

    /// Whether its frontd sends the body of a request again, from any offset on.
    pub(crate) fn sends_bodies_again(&self) -> bool {
        self.revision >= 1
    }

    /// Sends; a stream that broke has no reader any more, and needs none.
    pub(crate) fn send(&self, message: Message) {
        let _broken = self.out.send(ServeResponse { message: Some(message) });
    }

    /// Gives back what has not begun.
    pub(crate) fn hand_back(&self, ids: Vec<u64>) {
        if !ids.is_empty() {
            self.send(Message::HandedBack(HandedBack { ids }));
        }
    }
}
