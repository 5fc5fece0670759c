//! One call of the app: what it receives and sends.

mod file;
mod message;

use std::sync::Arc;
use std::task::{Wake, Waker};

use api::runner::serve_response::Message;
use api::runner::{Done, EarlyHints, Response};
use parking_lot::Mutex;
use pyo3::exceptions::{PyBrokenPipeError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::Notify;

use self::message::Sent;
use super::event_loop::{self, Due, Running};
use super::inbound::{Inbound, Received};
use super::outbound::Outbound;
use super::reply::{Flushed, Progress, Reply, ReplyError};
use super::shared::{self, Shared};
use crate::executor::failure;
use crate::link::active::ActiveRequest;
use crate::link::body::{Overrun, Upload};

/// A call of the app for one request.
pub(super) struct Call {
    active: Arc<ActiveRequest>,
    token: u64,
    shared: Arc<Shared>,
    /// Notified when the app has received a chunk, and when a chunk has been sent.
    room: Notify,
    inner: Mutex<Inner>,
}

/// Changed by the thread of the loop, except for bodies that arrive and leave. Never locked while Python runs.
struct Inner {
    inbound: Inbound,
    reply: Reply,
    /// Futures of `receive`, in the order of the calls.
    readers: Vec<Py<PyAny>>,
    /// Futures of `send`.
    writers: Vec<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    stage: Stage,
    /// The body of the response is being sent.
    delivers: bool,
    /// The body of the response is read from a file.
    reads_file: bool,
    /// It is in the loop's list of what is due.
    is_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The app runs.
    Running,
    /// The app has returned, but its response isn't sent completely.
    Returned,
    /// frontd was told.
    Done,
}

impl Call {
    pub(super) fn new(active: Arc<ActiveRequest>, token: u64, shared: Arc<Shared>) -> Arc<Self> {
        let inner = Inner {
            inbound: Inbound::of(&active.request),
            reply: Reply::to(&active.request.method),
            readers: Vec::new(),
            writers: Vec::new(),
            task: None,
            stage: Stage::Running,
            delivers: false,
            reads_file: false,
            is_due: false,
        };
        Arc::new(Self { active, token, shared, room: Notify::new(), inner: Mutex::new(inner) })
    }

    /// The app has returned, or raised an exception.
    fn end(self: &Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        let has_expired = self.active.deadline.leave();
        let (task, failed) = {
            let mut inner = self.inner.lock();
            if inner.stage != Stage::Running {
                return Ok(());
            }
            inner.stage = Stage::Returned;
            inner.inbound.forget();
            let failed = (error.is_some() || !inner.reply.is_complete()).then(|| inner.reply.fail());
            (inner.task.take(), failed)
        };
        drop(task);
        match error {
            Some(error) if has_expired && shared::is_cancelled(py, error) => self.log_expired(),
            Some(error) => failure::log(py, error, &self.active),
            None if failed.is_some() && !self.active.is_gone() => self.log_incomplete(failed == Some(true)),
            None => {}
        }
        if failed == Some(true) {
            let response = failure::server_error(self.active.id);
            let response = match error {
                Some(error) => self.shared.failures.explain(py, error, response),
                None => response,
            };
            self.finish(Some(response));
        }
        (self.shared.ended)(self.token);
        self.settle_later(py)
    }

    /// Tells frontd that this is over, unless it was told.
    fn finish(&self, response: Option<Response>) {
        if std::mem::replace(&mut self.inner.lock().stage, Stage::Done) == Stage::Done {
            return;
        }
        let message = match response {
            Some(response) => Message::Response(Response { done: true, ..response }),
            None => Message::Done(Done { id: self.active.id }),
        };
        self.shared.requests.end(&self.active);
        self.active.session.send(message);
    }

    /// Returns an awaitable of the next message for the app.
    fn receive(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (received, upload) = {
            let mut inner = self.inner.lock();
            match inner.inbound.receive() {
                Received::Later => (Received::Later, inner.inbound.want()),
                received => (received, None),
            }
        };
        if let Some(upload) = upload {
            self.shared.event_loop.guest.spawn(Arc::clone(self).fetch(upload));
            self.shared.event_loop.turn_soon(py)?;
        }
        match received {
            Received::Chunk { body, more } => {
                if more {
                    self.shared.event_loop.turn_soon(py)?;
                    self.room.notify_one();
                }
                return event_loop::completed(py, message::request(py, &body, more)?);
            }
            Received::Later => {}
            Received::Everything if !self.is_disconnected() => {
                self.active.wake_when_gone(&Waker::from(Arc::clone(self)));
            }
            Received::Everything | Received::Broken => {
                return event_loop::completed(py, message::disconnect(py)?);
            }
        }
        let future = self.shared.event_loop.future(py)?;
        self.inner.lock().readers.push(future.clone().unbind());
        if self.active.is_gone() {
            // It has left since it was checked.
            self.settle_later(py)?;
        }
        event_loop::pending(&future)
    }

    /// Whether the app receives a disconnect: its client has left, or has received everything.
    fn is_disconnected(&self) -> bool {
        self.active.is_gone() || self.inner.lock().reply.is_complete()
    }

    /// Receives the rest of the request's body, no faster than the app.
    async fn fetch(self: Arc<Self>, mut upload: Box<Upload>) {
        loop {
            let arrived = upload.next(&self.active).await;
            if arrived.is_err() {
                // frontd reports it over another connection, so that may take longer.
                self.active.cancel();
            }
            let is_last = !matches!(arrived, Ok(Some(_))) || upload.is_complete();
            let has_room = {
                let mut inner = self.inner.lock();
                inner.inbound.arrive(arrived, upload.is_complete());
                inner.inbound.has_room()
            };
            self.notify();
            if is_last {
                return;
            }
            // The next chunk may be small.
            while !has_room && !self.inner.lock().inbound.has_room() {
                if self.active.unless_gone(self.room.notified()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Handles a message of the app. Returns an awaitable that ends once the app may continue.
    fn send(self: &Arc<Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        if self.active.is_gone() {
            return Err(PyBrokenPipeError::new_err("send a message: the client has disconnected"));
        }
        let progress = match message::parse(message)? {
            Sent::Start { head, trailers } => {
                self.inner.lock().reply.start(head, trailers)?;
                return Ok(self.shared.event_loop.nothing(py));
            }
            Sent::Body { body, more } => {
                self.answer()?;
                self.inner.lock().reply.body(body, more)?
            }
            Sent::Trailers { headers, more } => {
                self.answer()?;
                self.inner.lock().reply.trailers(headers, more)?
            }
            Sent::File(path) => {
                self.answer()?;
                if !self.shared.is_sent_by_frontd(&path) {
                    return self.send_file(py, path);
                }
                self.inner.lock().reply.file(message::file(path))?
            }
            Sent::EarlyHints(headers) => {
                let hints = EarlyHints { id: self.active.id, headers };
                self.shared.event_loop.turn_soon(py)?;
                self.active.session.send(Message::EarlyHints(hints));
                return Ok(self.shared.event_loop.nothing(py));
            }
        };
        self.proceed(py, progress)
    }

    /// The response begins.
    fn answer(&self) -> PyResult<()> {
        if self.inner.lock().reply.is_begun() {
            return Ok(());
        }
        self.active
            .deadline
            .answer()
            .map_err(|late| PyBrokenPipeError::new_err(format!("send a message: {late}")))
    }

    fn proceed(self: &Arc<Self>, py: Python<'_>, progress: Progress) -> PyResult<Py<PyAny>> {
        let Progress { flush, is_full, overrun } = progress;
        if overrun != Overrun(0) {
            let (method, path, request) =
                (self.active.method(), self.active.path(), self.active.request_id());
            tracing::warn!(
                method,
                path,
                request,
                "the app sent more than its Content-Length: the rest is dropped"
            );
        }
        if flush {
            self.settle_later(py)?;
        } else {
            // The body's stream was woken.
            self.shared.event_loop.turn_soon(py)?;
        }
        if !is_full {
            return Ok(self.shared.event_loop.nothing(py));
        }
        let future = self.shared.event_loop.future(py)?;
        self.inner.lock().writers.push(future.clone().unbind());
        self.settle_later(py)?;
        event_loop::pending(&future)
    }

    /// Sends the body of a response.
    async fn deliver(self: Arc<Self>, outbound: Arc<Outbound>) {
        let made_room = || {
            self.room.notify_one();
            if outbound.has_room() && !self.inner.lock().writers.is_empty() {
                self.notify();
            }
        };
        let _its_client_has_gone = outbound.deliver(&self.active, made_room).await;
        self.inner.lock().delivers = false;
        self.notify();
    }

    fn settle_later(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if std::mem::replace(&mut self.inner.lock().is_due, true) {
            return self.shared.event_loop.turn_soon(py);
        }
        self.shared.event_loop.later(py, Arc::clone(self) as Arc<dyn Due>)
    }

    /// Settles this in the next turn. Can be called on any thread.
    fn notify(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.inner.lock().is_due, true) {
            self.shared.event_loop.notify(Arc::clone(self) as Arc<dyn Due>);
        }
    }

    fn flush(self: &Arc<Self>) {
        let (flushed, is_returned) = {
            let mut inner = self.inner.lock();
            let flushed = inner.reply.flush(self.active.id);
            inner.delivers |= matches!(flushed, Flushed::Stream(..));
            if inner.reply.is_complete() {
                // What the app does afterwards has no limit.
                self.active.deadline.leave();
            }
            (flushed, inner.stage == Stage::Returned)
        };
        match flushed {
            Flushed::Nothing => {}
            Flushed::Whole(response) if is_returned => self.finish(Some(response)),
            Flushed::Whole(response) => self.active.session.send(Message::Response(response)),
            Flushed::Stream(response, outbound) => {
                self.active.session.send(Message::Response(response));
                self.shared.event_loop.guest.spawn(Arc::clone(self).deliver(outbound));
            }
        }
    }

    fn resolve_readers(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let is_disconnected = self.is_disconnected();
            let reader = {
                let mut inner = self.inner.lock();
                let is_ready = inner.inbound.is_ready() || is_disconnected;
                if inner.readers.is_empty() || !is_ready {
                    return Ok(());
                }
                inner.readers.remove(0)
            };
            // A `receive` that was cancelled takes nothing.
            if event_loop::is_done(py, &reader)? {
                continue;
            }
            let received = self.inner.lock().inbound.receive();
            let message = match received {
                Received::Chunk { body, more } => {
                    self.room.notify_one();
                    message::request(py, &body, more)?
                }
                Received::Later | Received::Everything | Received::Broken => message::disconnect(py)?,
            };
            event_loop::resolve(py, &reader, message)?;
        }
    }

    fn resolve_writers(&self, py: Python<'_>) -> PyResult<()> {
        let is_gone = self.active.is_gone();
        let writers = {
            let mut inner = self.inner.lock();
            match !inner.reads_file && (is_gone || inner.reply.has_room()) {
                true => std::mem::take(&mut inner.writers),
                false => Vec::new(),
            }
        };
        writers.iter().try_for_each(|it| event_loop::resolve(py, it, py.None()))
    }

    fn log_expired(&self) {
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        tracing::info!(%method, %path, %request, "the request that exceeded its limit has ended");
    }

    fn log_incomplete(&self, nothing_was_sent: bool) {
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        match nothing_was_sent {
            true => tracing::error!(%method, %path, %request, "the app returned without a complete response"),
            false => {
                tracing::error!(%method, %path, %request, "the app returned before the end of its response's body");
            }
        }
    }
}

impl Due for Call {
    fn settle(self: Arc<Self>, py: Python<'_>) {
        self.inner.lock().is_due = false;
        self.flush();
        for resolved in [self.resolve_readers(py), self.resolve_writers(py)] {
            if let Err(error) = resolved {
                tracing::error!(%error, "wake a task of the app");
            }
        }
        let is_over = {
            let inner = self.inner.lock();
            inner.stage == Stage::Returned
                && !inner.delivers
                && !inner.reads_file
                && inner.reply.is_complete()
        };
        if is_over {
            self.finish(None);
        }
    }
}

impl Running for Call {
    fn active(&self) -> &Arc<ActiveRequest> {
        &self.active
    }

    fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.inner.lock().task.as_ref().map(|it| it.bind(py).clone())
    }

    fn set_task(&self, task: &Bound<'_, PyAny>) {
        let mut inner = self.inner.lock();
        if inner.stage == Stage::Running {
            inner.task = Some(task.clone().unbind());
        }
    }

    fn fail(self: Arc<Self>, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        self.end(py, Some(error))
    }
}

/// Woken when the client has disconnected.
impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}

impl From<ReplyError> for PyErr {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Short(_) => PyValueError::new_err(error.to_string()),
            _ => PyRuntimeError::new_err(error.to_string()),
        }
    }
}

/// A call, as the app's side of it.
#[pyclass(name = "Call", module = "_imperium", frozen)]
pub(super) struct AppCall(pub(super) Arc<Call>);

#[pymethods]
impl AppCall {
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
