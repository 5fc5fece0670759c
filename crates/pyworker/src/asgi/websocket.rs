//! One call of the app for a WebSocket (ASGI, "WebSocket"): its handshake, its messages and its end.

mod message;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use api::runner::serve_response::Message;
use api::runner::{Done, Response};
use parking_lot::Mutex;
use pyo3::exceptions::{PyBrokenPipeError, PyRuntimeError};
use pyo3::prelude::*;

use self::message::Sent;
use super::awaitable::Source;
use super::event_loop::{self, Due, Running};
use super::outbound::Outbound;
use super::reply::{Flushed, Reply};
use super::shared::{self, Shared};
use crate::executor::failure;
use crate::executor::head::{Head, HeadBuilder};
use crate::link::active::ActiveRequest;
use crate::link::websocket::{Closed, Next, WebSocket};

/// The status of a handshake that was accepted.
const SWITCHING: u32 = 101;
/// The status of one that the app has closed.
const FORBIDDEN: u16 = 403;
/// RFC 6455, section 7.4.1.
const NORMAL: u32 = 1000;
const ABNORMAL: u32 = 1006;
const APP_FAILED: u32 = 1011;

/// A call of the app for one WebSocket.
///
/// ```text
///   Handshake ──accept──▶ Open ──close, the client's end──▶ Closed
///       │ http.response.start                                  ▲
///       ├─────────────────────▶ Denying ──────────────────────┤
///       └── close: 403; failure: 500 ─────────────────────────┘
/// ```
pub(super) struct SocketCall {
    active: Arc<ActiveRequest>,
    token: u64,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    is_due: AtomicBool,
}

/// Never locked while Python runs.
struct Inner {
    stage: Stage,
    /// The app has received `websocket.connect`.
    is_connected: bool,
    readers: Vec<Py<PyAny>>,
    writers: Vec<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    has_returned: bool,
    /// The code that the app has closed it with.
    close_code: Option<u32>,
    /// frontd was told that this is over.
    is_done: bool,
    /// The body of a refusal is being sent.
    delivers: bool,
}

enum Stage {
    Handshake,
    Open,
    Denying(Reply),
    Closed,
}

impl Inner {
    /// Whether nothing more comes from the client.
    fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Handshake | Stage::Open => false,
            Stage::Denying(reply) => reply.is_complete(),
            Stage::Closed => true,
        }
    }
}

impl SocketCall {
    pub(super) fn new(active: Arc<ActiveRequest>, token: u64, shared: Arc<Shared>) -> Arc<Self> {
        let inner = Inner {
            stage: Stage::Handshake,
            is_connected: false,
            readers: Vec::new(),
            writers: Vec::new(),
            task: None,
            has_returned: false,
            close_code: None,
            is_done: false,
            delivers: false,
        };
        Arc::new(Self { active, token, shared, inner: Mutex::new(inner), is_due: AtomicBool::new(false) })
    }

    fn websocket(&self) -> PyResult<&WebSocket> {
        self.active.websocket().ok_or_else(|| PyRuntimeError::new_err("this request isn't a WebSocket"))
    }

    /// Returns an awaitable of the next event.
    fn receive(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if !std::mem::replace(&mut self.inner.lock().is_connected, true) {
            return event_loop::completed(py, message::connect(py)?);
        }
        if let Some(message) = self.next(py)? {
            return event_loop::completed(py, message);
        }
        let future = self.reader(py)?;
        event_loop::pending_message(&future, Arc::clone(self) as Arc<dyn Source>)
    }

    /// Returns a future that is resolved once `next` may have an event.
    fn reader<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.shared.event_loop.future(py)?;
        self.inner.lock().readers.push(future.clone().unbind());
        self.observe(py)?;
        Ok(future)
    }

    /// Has a change of the socket settle this, also one that has just happened.
    fn observe(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.active.wake_when_gone(&Waker::from(Arc::clone(self)));
        let websocket = self.websocket()?;
        let may_write = websocket.is_flushed() && !self.inner.lock().writers.is_empty();
        if websocket.is_ready() || may_write || self.active.is_gone() {
            self.settle_later(py)
        } else {
            Ok(())
        }
    }

    /// Takes the next event, if there is one.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.websocket()?.take(self.active.id, &self.active.session) {
            Next::Message(received) => {
                // Credit may have been returned.
                self.shared.event_loop.turn_soon(py)?;
                self.shared.count_message();
                message::receive(py, &received).map(Some)
            }
            Next::Closed(closed) => message::disconnect(py, &closed).map(Some),
            Next::Later => {
                let is_over = self.active.is_gone() || self.inner.lock().is_over();
                let code = self.inner.lock().close_code.unwrap_or(ABNORMAL);
                let closed = Closed { code, reason: String::new() };
                is_over.then(|| message::disconnect(py, &closed)).transpose()
            }
        }
    }

    /// Handles a message of the app. Returns an awaitable that ends once the app may continue.
    fn send(self: &Arc<Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        let sent = message::parse(message)?;
        if self.active.is_gone() && !matches!(self.inner.lock().stage, Stage::Closed) {
            return Err(gone());
        }
        match sent {
            Sent::Accept(head) => self.accept(py, head)?,
            Sent::Message { payload, text } => {
                self.expect_open("websocket.send")?;
                let websocket = self.websocket()?;
                // What is sent wakes the connection's task, which then needn't wake the loop.
                self.shared.event_loop.turn_soon(py)?;
                websocket.send(self.active.id, payload, text, &self.active.session).map_err(|_| gone())?;
                self.shared.count_message();
                if !websocket.is_flushed() {
                    let future = self.shared.event_loop.future(py)?;
                    self.inner.lock().writers.push(future.clone().unbind());
                    self.observe(py)?;
                    return event_loop::pending(&future);
                }
            }
            Sent::Close { code, reason } => self.close(py, code, reason)?,
            Sent::DenyStart(head) => {
                let mut inner = self.inner.lock();
                if !matches!(inner.stage, Stage::Handshake) {
                    return Err(misplaced("websocket.http.response.start"));
                }
                let mut reply = Reply::to(b"GET");
                reply.start(head, false)?;
                inner.stage = Stage::Denying(reply);
            }
            Sent::DenyBody { body, more } => {
                self.answer()?;
                let mut inner = self.inner.lock();
                let Stage::Denying(reply) = &mut inner.stage else {
                    return Err(misplaced("websocket.http.response.body"));
                };
                reply.body(body, more)?;
                drop(inner);
                self.settle_later(py)?;
            }
        }
        Ok(self.shared.event_loop.nothing(py))
    }

    fn answer(&self) -> PyResult<()> {
        self.active
            .deadline
            .answer()
            .map_err(|late| PyBrokenPipeError::new_err(format!("send a message: {late}")))
    }

    fn expect_open(&self, what: &str) -> PyResult<()> {
        match self.inner.lock().stage {
            Stage::Open => Ok(()),
            Stage::Closed => Err(gone()),
            Stage::Handshake | Stage::Denying(_) => Err(misplaced(what)),
        }
    }

    fn accept(&self, py: Python<'_>, head: Head) -> PyResult<()> {
        if !matches!(self.inner.lock().stage, Stage::Handshake) {
            return Err(misplaced("websocket.accept"));
        }
        self.answer()?;
        // An open WebSocket has no limit.
        self.active.deadline.leave();
        self.inner.lock().stage = Stage::Open;
        self.shared.requests.accept_socket(&self.active);
        self.shared.shutdown.socket_opened();
        self.shared.event_loop.turn_soon(py)?;
        let response =
            Response { id: self.active.id, status: SWITCHING, headers: head.headers, ..Response::default() };
        self.active.session.send(Message::Response(response));
        // A worker that drains may have told the others to close before.
        self.shared.close_if_too_late(&self.active);
        Ok(())
    }

    fn close(self: &Arc<Self>, py: Python<'_>, code: u32, reason: String) -> PyResult<()> {
        let before = std::mem::replace(&mut self.inner.lock().stage, Stage::Closed);
        match before {
            Stage::Open => {
                self.inner.lock().close_code = Some(code);
                self.shared.event_loop.turn_soon(py)?;
                self.websocket()?.close(self.active.id, code, reason, &self.active.session);
                self.settle_later(py)
            }
            Stage::Handshake => self.refuse(py),
            Stage::Denying(reply) => {
                self.inner.lock().stage = Stage::Denying(reply);
                Err(misplaced("websocket.close"))
            }
            // As in a `finally` after the client's end.
            Stage::Closed => Ok(()),
        }
    }

    /// The app has closed the socket before it accepted it.
    fn refuse(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.answer()?;
        let mut reply = Reply::to(b"GET");
        reply.start(HeadBuilder::with_number(FORBIDDEN)?.build(), false)?;
        reply.body(bytes::Bytes::new(), false)?;
        self.inner.lock().stage = Stage::Denying(reply);
        self.settle_later(py)
    }

    /// The app has returned, or raised an exception.
    fn end(self: &Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        let has_expired = self.active.deadline.leave();
        let (task, before) = {
            let mut inner = self.inner.lock();
            if std::mem::replace(&mut inner.has_returned, true) {
                return Ok(());
            }
            let before = match &mut inner.stage {
                Stage::Denying(reply) if reply.is_complete() => None,
                Stage::Denying(reply) => {
                    let is_unsent = reply.fail();
                    is_unsent.then(|| std::mem::replace(&mut inner.stage, Stage::Closed))
                }
                _ => Some(std::mem::replace(&mut inner.stage, Stage::Closed)),
            };
            (inner.task.take(), before)
        };
        drop(task);
        let is_over = self.active.is_gone() || self.websocket()?.closed().is_some();
        match error {
            Some(error) if (has_expired || self.shared.aborts()) && shared::is_cancelled(py, error) => {}
            // `send` after the client's end.
            Some(error) if is_over && error.is_instance_of::<PyBrokenPipeError>(py) => {}
            Some(error) => failure::log(py, error, &self.active),
            None => {}
        }
        match before {
            Some(Stage::Open) => {
                let code = if error.is_some() { APP_FAILED } else { NORMAL };
                self.websocket()?.close(self.active.id, code, String::new(), &self.active.session);
            }
            Some(Stage::Handshake | Stage::Denying(_)) => {
                if error.is_none() && !self.active.is_gone() {
                    let (path, request) = (self.active.path(), self.active.request_id());
                    tracing::error!(%path, %request, "the app returned without accepting or closing a WebSocket");
                }
                let response = failure::server_error(self.active.id);
                let response = match error {
                    Some(error) => self.shared.failures.explain(py, error, response),
                    None => response,
                };
                self.finish(Some(response));
            }
            Some(Stage::Closed) | None => {}
        }
        (self.shared.ended)(self.token);
        self.settle_later(py)
    }

    /// The task was closed before it began, so nobody has ended this.
    fn abandon(self: &Arc<Self>) {
        let task = {
            let mut inner = self.inner.lock();
            if std::mem::replace(&mut inner.has_returned, true) {
                return;
            }
            inner.stage = Stage::Closed;
            inner.task.take()
        };
        drop(task);
        self.active.deadline.leave();
        tracing::error!(path = %self.active.path(), request = %self.active.request_id(),
            "the app has cancelled the task of a WebSocket before it began");
        self.finish(Some(failure::server_error(self.active.id)));
        (self.shared.ended)(self.token);
    }

    /// Tells frontd that this is over, unless it was told.
    fn finish(&self, response: Option<Response>) {
        if std::mem::replace(&mut self.inner.lock().is_done, true) {
            return;
        }
        let message = match response {
            Some(response) => Message::Response(Response { done: true, ..response }),
            None => Message::Done(Done { id: self.active.id }),
        };
        if self.shared.requests.end(&self.active).was_socket {
            self.shared.shutdown.socket_closed();
        }
        self.active.session.send(message);
    }

    fn settle_later(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        match self.is_due.swap(true, Ordering::SeqCst) {
            true => self.shared.event_loop.turn_soon(py),
            false => self.shared.event_loop.later(py, Arc::clone(self) as Arc<dyn Due>),
        }
    }

    /// Settles this in the next turn. Can be called on any thread.
    fn notify(self: &Arc<Self>) {
        if !self.is_due.swap(true, Ordering::SeqCst) {
            self.shared.event_loop.notify(Arc::clone(self) as Arc<dyn Due>);
        }
    }

    fn flush(self: &Arc<Self>) {
        let flushed = {
            let mut inner = self.inner.lock();
            let flushed = match &mut inner.stage {
                Stage::Denying(reply) => reply.flush(self.active.id),
                _ => return,
            };
            inner.delivers |= matches!(flushed, Flushed::Stream(..));
            flushed
        };
        match flushed {
            Flushed::Nothing => {}
            Flushed::Whole(response) => self.active.session.send(Message::Response(response)),
            Flushed::Stream(response, outbound) => {
                self.active.session.send(Message::Response(response));
                self.shared.event_loop.guest.spawn(Arc::clone(self).deliver(outbound));
            }
        }
    }

    async fn deliver(self: Arc<Self>, outbound: Arc<Outbound>) {
        let _its_client_has_gone = outbound.deliver(&self.active, || ()).await;
        self.inner.lock().delivers = false;
        self.notify();
    }

    fn resolve_readers(&self, py: Python<'_>) -> PyResult<()> {
        let is_ready = self.websocket()?.is_ready() || self.active.is_gone();
        let readers = {
            let mut inner = self.inner.lock();
            if is_ready || inner.is_over() { std::mem::take(&mut inner.readers) } else { Vec::new() }
        };
        readers.iter().try_for_each(|it| event_loop::resolve(py, it))
    }

    fn resolve_writers(&self, py: Python<'_>) -> PyResult<()> {
        let is_free = self.websocket()?.is_flushed() || self.active.is_gone();
        let writers = if is_free { std::mem::take(&mut self.inner.lock().writers) } else { Vec::new() };
        writers.iter().try_for_each(|it| event_loop::resolve(py, it))
    }

    fn settled(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.flush();
        self.resolve_readers(py)?;
        self.resolve_writers(py)?;
        let waits = {
            let inner = self.inner.lock();
            !inner.readers.is_empty() || !inner.writers.is_empty() || inner.has_returned
        };
        let is_flushed = self.websocket()?.is_flushed() || self.active.is_gone();
        let is_over = {
            let inner = self.inner.lock();
            inner.has_returned && !inner.delivers && is_flushed
        };
        if is_over {
            self.finish(None);
        } else if waits {
            self.active.wake_when_gone(&Waker::from(Arc::clone(self)));
            let is_changed = self.websocket()?.is_ready() && !self.inner.lock().readers.is_empty()
                || self.websocket()?.is_flushed() && !self.inner.lock().writers.is_empty();
            if is_changed {
                self.settle_later(py)?;
            }
        }
        Ok(())
    }
}

impl Due for SocketCall {
    fn settle(self: Arc<Self>, py: Python<'_>) {
        self.is_due.store(false, Ordering::SeqCst);
        if let Err(error) = self.settled(py) {
            tracing::error!(%error, "wake a task of the app");
        }
    }
}

impl Running for SocketCall {
    fn active(&self) -> &Arc<ActiveRequest> {
        &self.active
    }

    fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.inner.lock().task.as_ref().map(|it| it.bind(py).clone())
    }

    fn set_task(&self, task: &Bound<'_, PyAny>) {
        let mut inner = self.inner.lock();
        if !inner.has_returned {
            inner.task = Some(task.clone().unbind());
        }
    }

    fn fail(self: Arc<Self>, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        self.end(py, Some(error))
    }
}

impl Source for SocketCall {
    fn take(self: Arc<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.next(py)
    }

    fn wait<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.reader(py)
    }
}

/// Woken when something has arrived, when there is credit, and when the client has gone.
impl Wake for SocketCall {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}

fn gone() -> PyErr {
    PyBrokenPipeError::new_err("send a message: the WebSocket is closed")
}

fn misplaced(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("the app sent {what} at a wrong time"))
}

/// A call, as the app's side of it.
#[pyclass(name = "WebSocketCall", module = "_imperium", frozen)]
pub(super) struct AppSocket(pub(super) Arc<SocketCall>);

impl Drop for AppSocket {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[pymethods]
impl AppSocket {
    fn receive(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.receive(py)
    }

    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.0.send(message)
    }

    /// The app has returned, or raised this exception.
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let error = error.map(PyErr::from_value);
        self.0.end(py, error.as_ref())
    }
}
