//! The rest of a request body, sent to the worker that has started the request.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_util::task::TaskTracker;

use super::refusal;
use crate::action::reply::Reply;
use crate::backend::pool::Upload;
use crate::backend::{BrokenOff, Uploading};
use crate::body::request::{Incoming, RequestBody};
use crate::limits::quota::Held;

/// Maximum size of a chunk, in bytes.
const CHUNK: usize = 64 * 1024;

/// Where the rest of a body comes from.
pub(super) struct Source<B> {
    pub(super) body: RequestBody<B>,
    /// What is here already.
    pub(super) waiting: Bytes,
    /// Bytes of the body so far, including those that were sent before.
    pub(super) received: u64,
    /// The largest body that is allowed, in bytes.
    pub(super) limit: u64,
    pub(super) has_ended: bool,
    /// Counts `waiting` against the client's memory.
    pub(super) held: Option<Held>,
}

/// The rest of a body, as a stream for the worker's call. It reads from the client only what the worker has room for.
/// Once it isn't needed any more, the client may send the rest for a while, which is dropped.
pub(crate) struct Outgoing<B: Incoming> {
    source: Source<B>,
    /// Tells [`Sending`] why the body broke off.
    failed: Option<oneshot::Sender<Reply>>,
    /// Ends when [`Sending`] is dropped.
    stopped: oneshot::Receiver<Infallible>,
    /// Dropped when the body is complete.
    in_progress: Option<(Uploading, Option<Upload>)>,
    tasks: TaskTracker,
}

/// A body that is being sent. Dropping it ends that.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// `None` once the body is complete.
    failed: Option<oneshot::Receiver<Reply>>,
    _stop: Option<oneshot::Sender<Infallible>>,
}

impl<B: Incoming> Outgoing<B> {
    pub(super) fn new(
        source: Source<B>,
        admitted: Option<Upload>,
        uploading: Uploading,
        tasks: TaskTracker,
    ) -> (Self, Sending) {
        let (failed, failure) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let in_progress = Some((uploading, admitted));
        let outgoing = Self { source, failed: Some(failed), stopped, in_progress, tasks };
        (outgoing, Sending { failed: Some(failure), _stop: Some(stop) })
    }

    fn fail(&mut self, reply: Reply) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(failed) = self.failed.take() {
            let _nobody_waits = failed.send(reply);
        }
        self.end();
        Poll::Ready(Some(Err(BrokenOff)))
    }

    fn end(&mut self) {
        self.failed = None;
        self.in_progress = None;
    }
}

impl<B: Incoming> Stream for Outgoing<B> {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if !this.source.waiting.is_empty() {
                let waiting = &mut this.source.waiting;
                let chunk = waiting.split_to(waiting.len().min(CHUNK));
                return Poll::Ready(Some(Ok(chunk)));
            }
            this.source.held = None;
            if this.source.has_ended {
                this.end();
                return Poll::Ready(None);
            }
            if Pin::new(&mut this.stopped).poll(cx).is_ready() {
                this.end();
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            let Source { body, waiting, received, limit, has_ended, .. } = &mut this.source;
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    *waiting = frame.into_data().unwrap_or_default();
                    *received = received.saturating_add(waiting.len() as u64);
                    if *received > *limit {
                        *waiting = Bytes::new();
                        return this.fail(Reply::BodyTooLarge);
                    }
                }
                Some(Err(error)) => return this.fail(refusal(&error)),
                None => *has_ended = true,
            }
        }
    }
}

impl<B: Incoming> Drop for Outgoing<B> {
    fn drop(&mut self) {
        let Source { body, has_ended, .. } = &mut self.source;
        if !*has_ended && !body.is_end_stream() {
            self.tasks.spawn(body.take().linger());
        }
    }
}

impl Sending {
    /// Moves it elsewhere.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Why the body has broken off, if it has.
    pub(crate) fn failure(&mut self) -> Option<Reply> {
        self.failed.take()?.try_recv().ok()
    }

    /// Ready once the body has broken off.
    pub(crate) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        let Some(failed) = &mut self.failed else { return Poll::Pending };
        match std::task::ready!(Pin::new(failed).poll(cx)) {
            Ok(reply) => Poll::Ready(reply),
            Err(_complete) => {
                self.failed = None;
                Poll::Pending
            }
        }
    }
}
