//! The body of a request on its way to a worker: complete, or sent while it arrives.
//!
//! ```text
//!   Arriving ──── the worker asks for it, or its response begins ────▶ Sending
//!      └── it is complete, or a worker takes only complete ones ──▶ Complete
//! ```
//! Until a worker has started the request, nothing that the client has sent is dropped, so the request can be sent to
//! another worker. Only then is the rest read as fast as the app reads it.

mod outgoing;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::task::TaskTracker;

use self::outgoing::Outgoing;
pub(super) use self::outgoing::Sending;
use crate::action::reply::Reply;
use crate::backend::Uploading;
use crate::backend::pool::Upload;
use crate::body::request::{Incoming, RequestBody, RequestBodyError};
use crate::body::spool::{COUNTED, INLINE_MAX, SpooledBody};
use crate::limits::quota::{Held, Quota};
use crate::visit::Visit;

/// The body of a request.
#[derive(Debug)]
pub(super) enum Payload<'a, B> {
    /// It can be sent to several workers in turn.
    Complete(SpooledBody),
    /// The client is still sending it, and no worker has started the request. Boxed because it is rare.
    Arriving(Box<Arriving<'a, B>>),
    /// A worker has started the request, and gets the body as it arrives.
    Sending(Sending),
}

/// A body that is still arriving. What is here is kept in memory.
#[derive(Debug)]
pub(super) struct Arriving<'a, B> {
    body: &'a mut RequestBody<B>,
    /// The client waits for `100 Continue`: it is sent when the body is read, so not before a worker asks for it.
    expects_continue: bool,
    /// In bytes, if the client has announced it.
    length: Option<u64>,
    /// The largest body that is allowed, in bytes.
    limit: u64,
    /// The beginning of the body.
    first: Bytes,
    /// How much of `first` was sent with the request's head.
    sent: usize,
    /// What follows `first`.
    more: BytesMut,
    has_ended: bool,
    memory: Arc<Quota>,
    held: Option<Held>,
    admitted: Option<Upload>,
}

impl<B: Incoming> Payload<'_, B> {
    /// Ready once the body can't be received. A complete one never fails.
    pub(super) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        match self {
            Self::Complete(_) => Poll::Pending,
            Self::Arriving(arriving) => arriving.poll_read_ahead(cx),
            Self::Sending(sending) => sending.poll_failed(cx),
        }
    }

    /// Recognizes a body that has arrived completely, and is small.
    pub(super) fn settle(&mut self) {
        if let Self::Arriving(arriving) = self
            && arriving.has_ended
            && arriving.here() <= INLINE_MAX
        {
            *self = Self::Complete(SpooledBody::Inline(arriving.take_all()));
        }
    }
}

impl<'a, B: Incoming> Arriving<'a, B> {
    /// Prepares to read a body of up to `limit` bytes. Nothing is read yet.
    ///
    /// # Errors
    ///
    /// Returns the reply to send if the client announces a larger one.
    pub(super) fn new(body: &'a mut RequestBody<B>, visit: &Visit<'_>, limit: u64) -> Result<Self, Reply> {
        let size = body.size_hint();
        if size.lower() > limit {
            return Err(Reply::BodyTooLarge);
        }
        Ok(Self {
            body,
            expects_continue: visit.expects_continue(),
            length: size.exact(),
            limit,
            first: Bytes::new(),
            sent: 0,
            more: BytesMut::new(),
            has_ended: false,
            memory: Arc::clone(visit.client.memory()),
            held: None,
            admitted: None,
        })
    }

    /// Counts it among the uploads of the app while it arrives.
    pub(super) fn admit(&mut self, upload: Upload) {
        self.admitted = Some(upload);
    }

    /// In bytes, if the client has announced it.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether more of it may be read before a worker asks for it.
    pub(super) fn reads_ahead(&self) -> bool {
        !self.has_ended && !self.expects_continue && self.here() < INLINE_MAX
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Bytes in memory.
    fn here(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Reads what has arrived, up to what fits into the message of a request. So small bodies need no call of their own,
    /// and it is noticed if the client leaves. Ready if the body can't be received.
    pub(super) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        while self.reads_ahead() {
            match ready!(Pin::new(&mut *self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if (self.here() as u64).saturating_add(data.len() as u64) > self.limit {
                        return Poll::Ready(Reply::BodyTooLarge);
                    }
                    self.push(data);
                    self.has_ended = self.body.is_end_stream();
                }
                Some(Err(error)) => return Poll::Ready(refusal(&error)),
                None => self.has_ended = true,
            }
        }
        Poll::Pending
    }

    /// Has `100 Continue` sent to a client that expects it, which has to come before the response.
    pub(super) async fn start_reading(&mut self) -> Result<(), Reply> {
        self.expects_continue = false;
        if let Poll::Ready(reply) = futures_util::poll!(poll_fn(|cx| self.poll_read_ahead(cx))) {
            return Err(reply);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn push(&mut self, data: Bytes) {
        match self.here() {
            0 => self.first = data,
            // Copied, because a frame of one byte can pin far more memory.
            _ => self.more.extend_from_slice(&data),
        }
        if self.here() > COUNTED && self.held.is_none() {
            self.held = Some(self.memory.hold(INLINE_MAX as u64));
        }
    }

    /// The beginning of the body, for the message of the request. It is kept for the next try.
    pub(super) fn inline(&mut self) -> Bytes {
        self.first = self.take_all();
        self.sent = self.first.len().min(INLINE_MAX);
        self.first.slice(..self.sent)
    }

    /// How much of the body [`Self::inline`] returned last.
    pub(super) fn sent(&self) -> u64 {
        self.sent as u64
    }

    /// All that is here.
    fn take_all(&mut self) -> Bytes {
        let first = std::mem::take(&mut self.first);
        if self.more.is_empty() {
            return first;
        }
        let mut all = BytesMut::with_capacity(first.len() + self.more.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&self.more.split());
        all.freeze()
    }

    /// Sends the body from `offset` on, in bytes, as it arrives.
    pub(super) fn send(
        &mut self,
        offset: u64,
        uploading: Uploading,
        tasks: TaskTracker,
    ) -> (Outgoing<B>, Sending) {
        let received = self.here() as u64;
        let mut waiting = self.take_all();
        waiting.advance(usize::try_from(offset).map_or(waiting.len(), |it| it.min(waiting.len())));
        let source = outgoing::Source {
            body: self.body.take(),
            waiting,
            received,
            limit: self.limit,
            has_ended: self.has_ended,
            held: self.held.take(),
        };
        Outgoing::new(source, self.admitted.take(), uploading, tasks)
    }
}

/// All of the body, to collect it.
impl<B: Incoming> http_body::Body for Arriving<'_, B> {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let here = self.take_all();
        if !here.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(here))));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut *self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.here() == 0 && (self.has_ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The reply to a client whose body can't be received.
pub(super) fn refusal(error: &RequestBodyError) -> Reply {
    match error {
        RequestBodyError::TooSlow => Reply::BodyTimeout,
        RequestBodyError::Broken(_) => Reply::BadBody,
    }
}
