//! One request that has begun: whether its client is still there, and the call that carries its bodies.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use api::runner::serve_response::Message;
use api::runner::{Begun, ExchangeRequest, ExchangeResponse, Request};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;

use crate::deadline::{Client, Deadline, Limits};
use crate::session::Session;

/// The client has left, or its frontd has: nobody waits for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub(crate) struct ClientGone;

/// What the worker sends on an `Exchange` call.
pub(crate) type ChunkSender = mpsc::Sender<ExchangeResponse>;

/// Shared by the thread that runs the app and the tasks that talk to frontd.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Unique within its session.
    pub(crate) id: u64,
    /// What was asked.
    pub(crate) request: Request,
    /// Where it came from.
    pub(crate) session: Arc<Session>,
    /// How long it may take, and what has come of that.
    pub(crate) deadline: Deadline,
    gone: AtomicBool,
    /// frontd has opened the file that the response names, or will not.
    file_opened: AtomicBool,
    /// Why the body of the response ends before it is whole.
    cut: OnceLock<&'static str>,
    /// Who sends that body is told so.
    sender: AtomicWaker,
    call: Mutex<Call>,
    changed: Notify,
}

/// The `Exchange` call, whose halves are taken by those who need them.
#[derive(Debug)]
enum Call {
    NotOpened,
    Opened { incoming: Option<Box<Streaming<ExchangeRequest>>>, outgoing: Option<ChunkSender> },
    Over,
}

impl Call {
    /// Whether the body of a response is sent on it.
    fn is_answering(&self) -> bool {
        matches!(self, Self::Opened { outgoing: None, .. })
    }
}

/// Why a call does not belong to this exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotJoined {
    /// It has its call already.
    Twice,
    /// It has ended.
    Over,
}

impl Exchange {
    /// Begins.
    pub(crate) fn new(request: Request, session: Arc<Session>) -> Self {
        Self {
            id: request.id,
            deadline: Deadline::new(Limits::new(request.limit_milliseconds, request.idle_milliseconds)),
            request,
            session,
            gone: AtomicBool::new(false),
            file_opened: AtomicBool::new(false),
            cut: OnceLock::new(),
            sender: AtomicWaker::new(),
            call: Mutex::new(Call::NotOpened),
            changed: Notify::new(),
        }
    }

    /// As it is logged.
    pub(crate) fn method(&self) -> &str {
        str::from_utf8(&self.request.method).unwrap_or_default()
    }

    /// As it is logged, and as the app is told.
    pub(crate) fn request_id(&self) -> &str {
        str::from_utf8(&self.request.request_id).unwrap_or_default()
    }

    /// As it is logged: without its query, which may hold what nobody else is to read.
    pub(crate) fn path(&self) -> String {
        let path = self.request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        path.escape_ascii().to_string()
    }

    /// Tells frontd that it has begun, and must not be tried elsewhere.
    pub(crate) fn tell_begun(&self) {
        self.session.send(Message::Begun(Begun { id: self.id }));
    }

    /// The client has left: who waits for it is told.
    pub(crate) fn cancel(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// It has ended: what is still held of the call is let go, which ends it in good order.
    pub(crate) fn end(&self) {
        *self.call.lock() = Call::Over;
        self.cancel();
    }

    /// Whether the client has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Whether its client waits for the rest.
    pub(crate) fn client(&self) -> Client {
        if self.is_gone() { Client::Gone } else { Client::Waits }
    }

    /// The body of the response ends here, before it is whole: its client is to see that. What was sent before goes out.
    pub(crate) fn cut(&self, why: &'static str) {
        self.cut.get_or_init(|| why);
        self.sender.wake();
    }

    /// Why the body of the response ended before it was whole, if it did.
    pub(crate) fn why_cut(&self) -> Option<&'static str> {
        self.cut.get().copied()
    }

    /// Waits until the body of the response is cut.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.sender.register(cx.waker());
        if self.why_cut().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The call that carries the bodies broke: whoever waits for a response on it has gone.
    pub(crate) fn lose_call(&self) {
        let is_answering = self.call.lock().is_answering();
        if is_answering {
            self.cancel();
        }
    }

    /// frontd has opened the file that the response names, or will not.
    pub(crate) fn file_opened(&self) {
        self.file_opened.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until the app may do what it likes with the file that its response names.
    pub(crate) async fn until_file_opened(&self) {
        let opened = self.when(|_| self.file_opened.load(Ordering::SeqCst).then_some(()));
        let _nobody_opens_it = opened.await;
    }

    /// frontd is about to be asked for another call in place of the one that carried the request's body.
    pub(crate) fn expect_call(&self) {
        let mut call = self.call.lock();
        if !matches!(*call, Call::Over) {
            *call = Call::NotOpened;
        }
    }

    /// frontd opened the call that carries the bodies.
    pub(crate) fn join(
        &self,
        incoming: Streaming<ExchangeRequest>,
        outgoing: ChunkSender,
    ) -> Result<(), NotJoined> {
        let mut call = self.call.lock();
        match &*call {
            Call::NotOpened => {
                *call = Call::Opened { incoming: Some(Box::new(incoming)), outgoing: Some(outgoing) }
            }
            Call::Opened { .. } => return Err(NotJoined::Twice),
            Call::Over => return Err(NotJoined::Over),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Waits for the call, and takes the request's body.
    pub(crate) async fn incoming(&self) -> Result<Box<Streaming<ExchangeRequest>>, ClientGone> {
        self.when(|call| match call {
            Call::Opened { incoming, .. } => incoming.take(),
            Call::NotOpened | Call::Over => None,
        })
        .await
    }

    /// Waits for the call, and takes the way for the response's body.
    pub(crate) async fn outgoing(&self) -> Result<ChunkSender, ClientGone> {
        self.when(|call| match call {
            Call::Opened { outgoing, .. } => outgoing.take(),
            Call::NotOpened | Call::Over => None,
        })
        .await
    }

    /// The outcome of `work`, unless the client leaves before.
    pub(crate) async fn unless_gone<T>(&self, work: impl Future<Output = T>) -> Result<T, ClientGone> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            gone = self.when(|_| None::<()>) => gone.and(Err(ClientGone)),
        }
    }

    async fn when<T>(&self, mut take: impl FnMut(&mut Call) -> Option<T>) -> Result<T, ClientGone> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_gone() {
                return Err(ClientGone);
            }
            if let Some(taken) = take(&mut self.call.lock()) {
                return Ok(taken);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_learns_that_the_client_has_gone() {
        let (session, _outgoing) = Session::new(1, 0);
        let exchange = Exchange::new(Request { id: 7, ..Request::default() }, Arc::new(session));
        let waiting = exchange.unless_gone(std::future::pending::<()>());
        let (waited, ()) = tokio::join!(waiting, async { exchange.cancel() });
        assert_eq!(waited, Err(ClientGone));
        assert_eq!(exchange.outgoing().await.err(), Some(ClientGone));
        assert_eq!(exchange.unless_gone(async { 1 }).await, Ok(1), "what is at hand is taken first");
    }
}
