//! The state of one request's response, and what to send next.

use std::sync::Arc;

use api::runner::serve_response::Message;
use api::runner::{File, Response};
use bytes::Bytes;
use pyo3::PyErr;

use super::interrupt;
use crate::executor::failure;
use crate::executor::head::{self, Head};
use crate::link::active::{ActiveRequest, Disconnected};
use crate::link::body::{Budget, Download, INLINE_LIMIT, Overrun, Shortfall};
use crate::link::deadline::TooLate;

/// The response to one request.
///
/// ```text
///                 exc_info
///                  ┌──┐
///   Nothing ──────▶Started ──first chunk──▶ Streaming ──finish, fail──▶ Over
///      │  start     │ whole: the body at once                            ▲
///      └────────────┴────────────────────────────────────────────────────┘
///       fail: 500
/// ```
#[derive(Debug)]
pub(crate) struct Reply {
    stage: Stage,
    method: Method,
    active: Arc<ActiveRequest>,
}

/// Whether the request's method allows a body in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// HEAD: the app's body is dropped.
    Head,
    Other,
}

#[derive(Debug)]
enum Stage {
    /// The app hasn't called `start_response`.
    Nothing,
    /// The head is known, but hasn't been sent.
    Started(Head),
    /// The head was sent, and the body follows.
    Streaming(Download),
    /// Nothing more will be sent.
    Over,
    /// The app has returned, and its body was consumed. Later writes are errors.
    Ended,
}

/// Why a response can't continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    /// A body without a head.
    #[error("the app returned a body without calling start_response")]
    NotStarted,
    /// The app has already returned its whole body.
    #[error("send the response body: the response has ended")]
    Ended,
    /// The body is shorter than its Content-Length.
    #[error(transparent)]
    Short(#[from] Shortfall),
    /// The client has disconnected.
    #[error("send the response body: {0}")]
    Gone(#[from] Disconnected),
    /// The client has already received a timeout.
    #[error("send the response: {0}")]
    TooLate(#[from] TooLate),
}

/// Why `start_response` can't be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgainError {
    /// `exc_info` is missing.
    NoException,
    /// The head was already sent.
    HeadSent,
}

/// Whether `start_response` was called with `exc_info`, and may therefore replace a head that wasn't sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Without `exc_info`: it must be the only call.
    First,
    /// With `exc_info`.
    Exception,
}

impl Reply {
    /// The response hasn't started.
    pub(crate) fn new(method: Method, active: Arc<ActiveRequest>) -> Self {
        Self { stage: Stage::Nothing, method, active }
    }

    /// Checks whether `start_response` may be called.
    pub(crate) fn may_start(&self, start: Start) -> Result<(), AgainError> {
        match (&self.stage, start) {
            (Stage::Nothing, _) | (Stage::Started(_), Start::Exception) => Ok(()),
            (Stage::Started(_), Start::First) => Err(AgainError::NoException),
            (Stage::Streaming(_) | Stage::Over | Stage::Ended, _) => Err(AgainError::HeadSent),
        }
    }

    /// Sets the head, which is sent with the first chunk of the body.
    pub(crate) fn start(&mut self, head: Head, start: Start) -> Result<(), AgainError> {
        self.may_start(start)?;
        self.stage = Stage::Started(head);
        Ok(())
    }

    /// Whether the body would be sent. For HEAD and some statuses, it is dropped.
    pub(crate) fn wants_body(&self) -> bool {
        match &self.stage {
            Stage::Started(head) => self.has_body(head),
            Stage::Nothing | Stage::Streaming(_) => true,
            Stage::Over | Stage::Ended => false,
        }
    }

    /// Whether nothing was sent yet, and `first` is the complete body according to the head.
    pub(crate) fn is_whole(&self, first: &[u8]) -> bool {
        let Stage::Started(head) = &self.stage else { return false };
        head.content_length.is_some_and(|it| it <= first.len() as u64) && first.len() <= INLINE_LIMIT
    }

    /// Whether the head hasn't been sent, so that a body can be sent with it.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self.stage, Stage::Nothing | Stage::Started(_))
    }

    /// Returns the complete response for the caller to send. Nothing can follow it.
    pub(crate) fn whole(&mut self, mut body: Bytes) -> Result<Response, ReplyError> {
        let Stage::Started(head) = &self.stage else { return Err(ReplyError::NotStarted) };
        if self.has_body(head) {
            let mut budget = Budget::new(head.content_length);
            self.log(budget.spend(&mut body));
            budget.shortfall().map_or(Ok(()), Err)?;
        } else {
            body = Bytes::new();
        }
        let response =
            Response { id: self.active.id, status: head.status.into(), body, ..Response::default() };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Started(head) => Ok(Response {
                reason: head.reason,
                headers: head.headers,
                file: head.file.filter(|_| head::has_body(head.status)),
                ..response
            }),
            _ => Err(ReplyError::NotStarted),
        }
    }

    /// Sends one chunk of the body, and before it the head if it wasn't sent. Waits while the client is slow.
    pub(crate) async fn send(&mut self, piece: Bytes) -> Result<(), ReplyError> {
        match self.stage {
            Stage::Nothing => return Err(ReplyError::NotStarted),
            Stage::Ended => return Err(ReplyError::Ended),
            Stage::Started(_) | Stage::Streaming(_) | Stage::Over => {}
        }
        if piece.is_empty() {
            return self.check_client();
        }
        if !self.wants_body() {
            return Ok(());
        }
        self.open().await?;
        if let Stage::Streaming(download) = &mut self.stage {
            let overrun = download.send(&self.active, piece).await?;
            if overrun != Overrun(0) {
                self.log(overrun);
                return self.finish().map(drop);
            }
        }
        Ok(())
    }

    /// Whether the client still waits for the rest. An app checks by sending an empty chunk.
    pub(crate) fn check_client(&self) -> Result<(), ReplyError> {
        if self.active.is_gone() { Err(Disconnected.into()) } else { Ok(()) }
    }

    /// Whether a file may be sent instead of the body, and its required length, if the head has one.
    pub(crate) fn wants_file(&self) -> Option<Option<u64>> {
        match &self.stage {
            Stage::Started(head) if self.has_body(head) => Some(head.content_length),
            _ => None,
        }
    }

    /// Has frontd send the file instead of the body.
    pub(crate) fn leave_to_frontd(&mut self, file: File) {
        if let Stage::Started(head) = &mut self.stage {
            head.file = Some(Box::new(file));
        }
    }

    /// The app has produced its whole body. Returns the response if nothing was sent yet.
    pub(crate) fn finish(&mut self) -> Result<Option<Response>, ReplyError> {
        if self.is_unsent() {
            return self.whole(Bytes::new()).map(Some);
        }
        if let Stage::Streaming(download) = std::mem::replace(&mut self.stage, Stage::Over) {
            download.finish(&self.active)?;
        }
        Ok(None)
    }

    /// The app failed. Returns an error response, or cuts off the response that was being sent.
    pub(crate) fn fail(&mut self) -> Option<Response> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Nothing | Stage::Started(_) => Some(failure::server_error(self.active.id)),
            Stage::Streaming(_) => {
                self.active.cut("the app failed");
                None
            }
            Stage::Over | Stage::Ended => None,
        }
    }

    /// The app has returned, and its body was consumed. Later writes, for example by another thread, fail.
    pub(crate) fn end(&mut self) {
        self.stage = Stage::Ended;
        self.active.deadline.close();
    }

    /// Sends the head if it wasn't sent, and waits for the body's stream.
    async fn open(&mut self) -> Result<(), ReplyError> {
        let Stage::Started(head) = &mut self.stage else { return Ok(()) };
        self.active.deadline.answer()?;
        let response = Response {
            id: self.active.id,
            status: head.status.into(),
            reason: std::mem::take(&mut head.reason),
            headers: std::mem::take(&mut head.headers),
            streamed: true,
            ..Response::default()
        };
        let content_length = head.content_length;
        // From here on, the head can't be taken back, whatever happens.
        self.stage = Stage::Over;
        self.active.session.send(Message::Response(response));
        // While frontd opens the call, the app isn't idle.
        let _waits = self.active.deadline.wait_for_client();
        self.stage = Stage::Streaming(Download::open(&self.active, content_length).await?);
        Ok(())
    }

    /// The exception to raise in the calling thread, if the response exceeded a limit.
    pub(crate) fn overdue(&self) -> Option<PyErr> {
        interrupt::due(&self.active)
    }

    fn has_body(&self, head: &Head) -> bool {
        self.method == Method::Other && head::has_body(head.status) && head.file.is_none()
    }

    fn log(&self, Overrun(bytes): Overrun) {
        if bytes > 0 {
            let (method, path) = (self.active.method(), self.active.path());
            let request = self.active.request_id();
            tracing::warn!(
                method,
                path,
                request,
                "the app sent more than its Content-Length: the rest is dropped"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use api::runner::{Request, ServeResponse};
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;
    use crate::link::session::Session;

    fn reply(method: Method) -> (Reply, UnboundedReceiver<ServeResponse>) {
        let (session, outgoing) = Session::new(1, 0);
        let request = Request { id: 7, ..Request::default() };
        (Reply::new(method, Arc::new(ActiveRequest::new(request, Arc::new(session)))), outgoing)
    }

    fn head(status: u16, content_length: Option<u64>) -> Head {
        Head { status, reason: Bytes::new(), headers: Vec::new(), content_length, file: None }
    }

    fn body(response: Result<Response, ReplyError>) -> Result<String, ReplyError> {
        response.map(|it| String::from_utf8(it.body.into()).unwrap())
    }

    #[test]
    fn a_complete_body_has_the_announced_length() {
        for (method, status, length, given, expected) in [
            (Method::Other, 200, None, "abc", Some("abc")),
            (Method::Other, 200, Some(3), "abc", Some("abc")),
            (Method::Other, 200, Some(2), "abc", Some("ab")),
            (Method::Other, 200, Some(4), "abc", None),
            (Method::Head, 200, Some(4), "", Some("")),
            (Method::Head, 200, None, "abc", Some("")),
            (Method::Other, 304, Some(4), "", Some("")),
            (Method::Other, 204, None, "abc", Some("")),
        ] {
            let (mut reply, _outgoing) = reply(method);
            reply.start(head(status, length), Start::First).unwrap();
            let whole = body(reply.whole(Bytes::from_static(given.as_bytes())));
            assert_eq!(whole.ok().as_deref(), expected, "{method:?} {status} {length:?} {given}");
        }
    }

    #[test]
    fn start_response_may_be_repeated_only_with_exc_info_before_the_head_is_sent() {
        let (mut reply, _outgoing) = reply(Method::Other);
        assert_eq!(reply.start(head(200, None), Start::First), Ok(()));
        assert_eq!(reply.start(head(200, None), Start::First), Err(AgainError::NoException));
        assert_eq!(reply.start(head(200, None), Start::Exception), Ok(()));
        reply.whole(Bytes::new()).unwrap();
        assert_eq!(reply.may_start(Start::Exception), Err(AgainError::HeadSent));
    }

    #[tokio::test]
    async fn a_failure_before_the_head_is_a_500_and_a_body_without_a_head_is_refused() {
        let (mut reply, _outgoing) = reply(Method::Other);
        assert_eq!(reply.send(Bytes::from_static(b"x")).await, Err(ReplyError::NotStarted));
        assert_eq!(reply.finish(), Err(ReplyError::NotStarted));
        assert_eq!(reply.fail().map(|it| it.status), Some(500));
        assert_eq!(reply.fail(), None);
    }

    #[tokio::test]
    async fn an_empty_chunk_checks_the_client_and_a_late_one_is_refused() {
        let (mut reply, _outgoing) = reply(Method::Other);
        reply.start(head(200, None), Start::First).unwrap();
        assert_eq!(reply.send(Bytes::new()).await, Ok(()));
        reply.active.cancel();
        assert_eq!(reply.send(Bytes::new()).await, Err(ReplyError::Gone(Disconnected)));
        reply.end();
        assert_eq!(reply.send(Bytes::from_static(b"x")).await, Err(ReplyError::Ended));
    }

    #[tokio::test]
    async fn the_head_is_sent_once_with_the_first_chunk() {
        let (mut reply, mut outgoing) = reply(Method::Other);
        reply.start(head(200, None), Start::First).unwrap();
        reply.send(Bytes::new()).await.unwrap();
        assert!(outgoing.try_recv().is_err(), "an empty piece is no reason to send");
        reply.active.cancel();
        assert_eq!(reply.send(Bytes::from_static(b"x")).await, Err(ReplyError::Gone(Disconnected)));
        let sent = outgoing.try_recv().unwrap().message.unwrap();
        assert!(matches!(sent, Message::Response(Response { id: 7, streamed: true, done: false, .. })));
        assert_eq!(reply.may_start(Start::Exception), Err(AgainError::HeadSent));
        assert_eq!(reply.fail(), None);
    }

    #[test]
    fn a_complete_first_chunk_is_sent_inline() {
        let (mut reply, _outgoing) = reply(Method::Other);
        reply.start(head(200, Some(3)), Start::First).unwrap();
        assert!(reply.is_whole(b"abc") && !reply.is_whole(b"ab"));
        reply.start(head(200, None), Start::Exception).unwrap();
        assert!(!reply.is_whole(b"abc"));
    }
}
