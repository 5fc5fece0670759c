//! A request that has started: whether its client is still connected, and the `Exchange` call that carries its bodies.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use api::runner::serve_response::Message;
use api::runner::{Begun, ExchangeRequest, ExchangeResponse, Request};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;

use super::deadline::{Client, Deadline, Limits};
use super::session::Session;
use super::websocket::WebSocket;

/// The client, or its frontd, has disconnected: nobody waits for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client has disconnected")]
pub(crate) struct Disconnected;

/// The sender for an `Exchange` call's responses.
pub(crate) type ChunkSender = mpsc::Sender<ExchangeResponse>;

/// The state of one request, shared by what calls the app and the tasks that talk to frontd.
#[derive(Debug)]
pub(crate) struct ActiveRequest {
    /// Unique within its session.
    pub(crate) id: u64,
    pub(crate) request: Request,
    /// The session that it arrived on.
    pub(crate) session: Arc<Session>,
    /// Its time limits, and whether they were exceeded.
    pub(crate) deadline: Deadline,
    gone: AtomicBool,
    /// frontd has opened the file that the response names, or never will.
    file_opened: AtomicBool,
    /// Why the body of the response ends before it is complete.
    cut: OnceLock<&'static str>,
    /// Wakes the stream of that body when it is cut.
    sender: AtomicWaker,
    /// Wakes what has to know that the client has disconnected.
    observer: AtomicWaker,
    body_call: Mutex<BodyCall>,
    changed: Notify,
    /// The WebSocket that the client asks for.
    websocket: Option<Box<WebSocket>>,
}

/// The `Exchange` call. Whoever needs one of its directions takes it.
#[derive(Debug)]
enum BodyCall {
    NotOpened,
    Opened { incoming: Option<Box<Streaming<ExchangeRequest>>>, outgoing: Option<ChunkSender> },
    Over,
}

impl BodyCall {
    /// Whether the body of a response is being sent on it.
    fn is_answering(&self) -> bool {
        matches!(self, Self::Opened { outgoing: None, .. })
    }
}

/// Why a call can't be attached to this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotJoined {
    /// It already has a call.
    Twice,
    /// It has ended.
    Over,
}

impl ActiveRequest {
    pub(crate) fn new(request: Request, session: Arc<Session>) -> Self {
        let deadline = Deadline::new(Limits::new(request.limit_milliseconds, request.idle_milliseconds));
        if request.streams_body {
            deadline.follow_upload();
        }
        Self {
            id: request.id,
            websocket: request.websocket.then(Box::default),
            deadline,
            request,
            session,
            gone: AtomicBool::new(false),
            file_opened: AtomicBool::new(false),
            cut: OnceLock::new(),
            sender: AtomicWaker::new(),
            observer: AtomicWaker::new(),
            body_call: Mutex::new(BodyCall::NotOpened),
            changed: Notify::new(),
        }
    }

    /// The method, for the log.
    pub(crate) fn method(&self) -> &str {
        str::from_utf8(&self.request.method).unwrap_or_default()
    }

    /// Whether the method is safe (RFC 9110, 9.2.1). Such a request can be retried even after it was started.
    pub(crate) fn is_safe(&self) -> bool {
        matches!(&*self.request.method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }

    /// The request id, for the log and the app.
    pub(crate) fn request_id(&self) -> &str {
        str::from_utf8(&self.request.request_id).unwrap_or_default()
    }

    /// The path, for the log. Without the query, which may contain secrets.
    pub(crate) fn path(&self) -> String {
        let path = self.request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        path.escape_ascii().to_string()
    }

    /// Tells frontd that the request has started, and must not be sent to another worker.
    pub(crate) fn report_start(&self) {
        self.session.send(Message::Begun(Begun { id: self.id }));
    }

    /// The WebSocket that the client asks for.
    pub(crate) fn websocket(&self) -> Option<&WebSocket> {
        self.websocket.as_deref()
    }

    /// Wakes what observes this request: its WebSocket has changed.
    pub(crate) fn websocket_changed(&self) {
        self.observer.wake();
    }

    /// The client has disconnected. Wakes all waiters.
    pub(crate) fn cancel(&self) {
        if let Some(websocket) = &self.websocket {
            websocket.lose();
        }
        self.gone.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
        self.observer.wake();
    }

    /// Wakes `observer` once the client has disconnected. The caller then checks whether that has happened already.
    pub(crate) fn wake_when_gone(&self, observer: &Waker) {
        self.observer.register(observer);
    }

    /// Ends the request. Dropping what is left of the call ends it normally.
    pub(crate) fn end(&self) {
        *self.body_call.lock() = BodyCall::Over;
        self.cancel();
    }

    /// Whether the client has disconnected.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    pub(crate) fn client(&self) -> Client {
        if self.is_gone() { Client::Gone } else { Client::Waits }
    }

    /// Ends the body of the response before it is complete, in a way that the client notices. Chunks sent
    /// before are delivered.
    pub(crate) fn cut(&self, why: &'static str) {
        self.cut.get_or_init(|| why);
        self.sender.wake();
    }

    /// Why the body of the response was cut, if it was.
    pub(crate) fn why_cut(&self) -> Option<&'static str> {
        self.cut.get().copied()
    }

    /// Waits until the body of the response is cut.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.sender.register(cx.waker());
        if self.why_cut().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The call that carries the bodies broke. If a response was being sent, its client has gone.
    pub(crate) fn lose_call(&self) {
        let is_answering = self.body_call.lock().is_answering();
        if is_answering {
            self.cancel();
        }
    }

    /// frontd has opened the file that the response names, or never will.
    pub(crate) fn file_opened(&self) {
        self.file_opened.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until frontd no longer needs the path of the file that the response names.
    pub(crate) async fn until_file_opened(&self) {
        let opened = self.when(|_| self.file_opened.load(Ordering::SeqCst).then_some(()));
        let _nobody_opens_it = opened.await;
    }

    /// Prepares for another call, which replaces the one that carried the request's body.
    pub(crate) fn expect_call(&self) {
        let mut call = self.body_call.lock();
        if !matches!(*call, BodyCall::Over) {
            *call = BodyCall::NotOpened;
        }
    }

    /// Whether there is a call.
    pub(crate) fn has_call(&self) -> bool {
        !matches!(*self.body_call.lock(), BodyCall::NotOpened)
    }

    /// Attaches the call that frontd has opened for the bodies.
    pub(crate) fn join(
        &self,
        incoming: Streaming<ExchangeRequest>,
        outgoing: ChunkSender,
    ) -> Result<(), NotJoined> {
        let mut call = self.body_call.lock();
        match &*call {
            BodyCall::NotOpened => {
                *call = BodyCall::Opened { incoming: Some(Box::new(incoming)), outgoing: Some(outgoing) }
            }
            BodyCall::Opened { .. } => return Err(NotJoined::Twice),
            BodyCall::Over => return Err(NotJoined::Over),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Waits for the call, and takes the stream of the request's body.
    pub(crate) async fn incoming(&self) -> Result<Box<Streaming<ExchangeRequest>>, Disconnected> {
        self.when(|call| match call {
            BodyCall::Opened { incoming, .. } => incoming.take(),
            BodyCall::NotOpened | BodyCall::Over => None,
        })
        .await
    }

    /// Takes the stream of the request's body from the call, if there is one.
    pub(crate) fn take_incoming(&self) -> Option<Box<Streaming<ExchangeRequest>>> {
        match &mut *self.body_call.lock() {
            BodyCall::Opened { incoming, .. } => incoming.take(),
            BodyCall::NotOpened | BodyCall::Over => None,
        }
    }

    /// Waits for the call, and takes the sender of the response's body.
    pub(crate) async fn outgoing(&self) -> Result<ChunkSender, Disconnected> {
        self.when(|call| match call {
            BodyCall::Opened { outgoing, .. } => outgoing.take(),
            BodyCall::NotOpened | BodyCall::Over => None,
        })
        .await
    }

    /// Runs `work`, unless the client disconnects before it is done.
    pub(crate) async fn unless_gone<T>(&self, work: impl Future<Output = T>) -> Result<T, Disconnected> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            gone = self.when(|_| None::<()>) => gone.and(Err(Disconnected)),
        }
    }

    async fn when<T>(&self, mut take: impl FnMut(&mut BodyCall) -> Option<T>) -> Result<T, Disconnected> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_gone() {
                return Err(Disconnected);
            }
            if let Some(taken) = take(&mut self.body_call.lock()) {
                return Ok(taken);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn safe_methods_are_case_sensitive() {
        for (method, safe) in [("HEAD", true), ("TRACE", true), ("POST", false), ("get", false), ("", false)]
        {
            let (session, _outgoing) = Session::new(1, 0);
            let request = Request { method: Bytes::from_static(method.as_bytes()), ..Request::default() };
            assert_eq!(ActiveRequest::new(request, Arc::new(session)).is_safe(), safe, "{method}");
        }
    }

    #[tokio::test]
    async fn waiters_learn_that_the_client_has_gone() {
        let (session, _outgoing) = Session::new(1, 0);
        let active = ActiveRequest::new(Request { id: 7, ..Request::default() }, Arc::new(session));
        let waiting = active.unless_gone(std::future::pending::<()>());
        let (waited, ()) = tokio::join!(waiting, async { active.cancel() });
        assert_eq!(waited, Err(Disconnected));
        assert_eq!(active.outgoing().await.err(), Some(Disconnected));
        assert_eq!(active.unless_gone(async { 1 }).await, Ok(1), "what is at hand is taken first");
    }
}
