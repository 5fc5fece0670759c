//! What a worker reports about an exchange, and what the receiver of a response holds meanwhile.

use std::sync::Arc;

use api::runner::{Failure, File, Header};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Link, Socket};

/// What a worker reports about an exchange.
#[derive(Debug)]
pub(super) enum Event {
    /// The worker has started and asks for the body from this offset on. The receiver yields the next event.
    NeedBody(u64, oneshot::Receiver<Event>),
    /// Early hints for the client. The receiver yields the next event.
    EarlyHints(Vec<Header>, oneshot::Receiver<Event>),
    Settled(Outcome),
}

/// The outcome of an exchange.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The head of the response, and its body if that is small.
    Response {
        status: u32,
        headers: Vec<Header>,
        body: Bytes,
        /// Set if the body comes through the exchange's own call.
        streamed: Option<Receiving>,
        /// The reason phrase, if it isn't the standard one.
        reason: Bytes,
        file: Option<NamedFile>,
        /// The app's exception that caused this response, for developers.
        failure: Option<Box<Failure>>,
    },
    /// The worker accepts the handshake, with these headers.
    Socket { headers: Vec<Header>, socket: Socket },
    /// The worker hasn't started the request and never will.
    HandedBack,
    /// The request exceeded its limit and still runs.
    TimedOut,
    /// The request exceeded its limit, and the worker hasn't reported it.
    NoAnswer,
    /// The worker is gone.
    Broken(Broken),
}

/// What is known about an exchange whose worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The worker had reported that it started the request.
    Begun,
    /// The worker hadn't reported it. Workers only report it for unsafe methods.
    NotKnownToHaveBegun,
}

/// A response body that is being received. Keeps the link open until it is dropped: a draining worker exits
/// once all its links are closed.
#[derive(Debug)]
pub(crate) struct Receiving {
    link: Arc<Link>,
    id: u64,
}

impl Receiving {
    pub(super) fn new(link: Arc<Link>, id: u64) -> Self {
        Self { link, id }
    }

    /// Nobody wants the rest of the body: tells the worker, if it isn't done with the exchange.
    pub(crate) fn cancel(&self) {
        self.link.cancel(self.id);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.link.received();
    }
}

/// A request body that is being sent while it arrives. Until this is dropped, the exchange has no deadline: the
/// time that a client takes to send its body isn't the worker's.
#[derive(Debug)]
pub(crate) struct Uploading {
    link: Arc<Link>,
    id: u64,
}

impl Uploading {
    pub(super) fn new(link: Arc<Link>, id: u64) -> Self {
        link.upload_began(id);
        Self { link, id }
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.link.upload_ended(self.id);
    }
}

/// A file that a response names instead of a body.
#[derive(Debug)]
pub(crate) struct NamedFile {
    file: Box<File>,
    /// Dropped on every path, once the file was opened or won't be.
    _opening: Option<Opening>,
}

impl NamedFile {
    /// If the app has to keep the file until it is open, `link` is told then about the exchange `id`.
    pub(super) fn new(file: Box<File>, link: Option<Arc<Link>>, id: u64) -> Self {
        Self { file, _opening: link.map(|link| Opening { link, id }) }
    }

    /// The file, as named by the worker.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// The app keeps the file until this is dropped.
#[derive(Debug)]
struct Opening {
    link: Arc<Link>,
    id: u64,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.link.file_opened(self.id);
    }
}
