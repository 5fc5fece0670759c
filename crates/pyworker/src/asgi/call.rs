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
use super::awaitable::Source;
use super::event_loop::{self, Due, Running};
use super::inbound::{Inbound, Received};
use super::outbound::Outbound;
use super::reply::{Flushed, Progress, Reply, ReplyError};
use super::shared::{self, Shared};
use crate::executor::failure;
use crate::link::active::ActiveRequest;
use crate::link::body::{Overrun, Upload};
use crate::python::forked;

/// A call of the app for one request.
pub(super) struct Call {
    active: Arc<ActiveRequest>,
    token: u64,
    shared: Arc<Shared>,
    /// Notified when the app has received a chunk.
    received: Notify,
    /// Notified when a chunk of the response has been sent.
    sent: Notify,
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
        Arc::new(Self {
            active,
            token,
            shared,
            received: Notify::new(),
            sent: Notify::new(),
            inner: Mutex::new(inner),
        })
    }

    /// The app has returned, or raised an exception.
    fn end(self: &Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        self.shared.event_loop.turn_soon(py)?;
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
            Some(error) if self.shared.aborts() && shared::is_cancelled(py, error) => self.log_aborted(),
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
        forked::end_if_forked();
        if let Some(message) = self.next(py)? {
            return event_loop::completed(py, message);
        }
        let future = self.reader(py)?;
        event_loop::pending_message(&future, Arc::clone(self) as Arc<dyn Source>)
    }

    /// Takes the next message, if there is one.
    fn next(self: &Arc<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let is_disconnected = self.is_disconnected();
        let (received, upload) = {
            let mut inner = self.inner.lock();
            match inner.inbound.receive() {
                Received::Later if !is_disconnected => (Received::Later, inner.inbound.want()),
                received => (received, None),
            }
        };
        if let Some(upload) = upload {
            self.shared.event_loop.turn_soon(py)?;
            self.shared.event_loop.guest.spawn(Arc::clone(self).fetch(upload));
        }
        match received {
            Received::Chunk { body, more } => {
                if more {
                    self.shared.event_loop.turn_soon(py)?;
                    self.received.notify_one();
                }
                message::request(py, &body, more).map(Some)
            }
            Received::Later | Received::Everything if !is_disconnected => Ok(None),
            // Nobody sends the rest after the end of the response.
            Received::Later | Received::Everything | Received::Broken => message::disconnect(py).map(Some),
        }
    }

    /// Returns a future that is resolved once `next` may have a message.
    fn reader<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.shared.event_loop.future(py)?;
        self.inner.lock().readers.push(future.clone().unbind());
        self.active.wake_when_gone(&Waker::from(Arc::clone(self)));
        if self.active.is_gone() || self.inner.lock().inbound.is_ready() {
            // That was too late.
            self.settle_later(py)?;
        }
        Ok(future)
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
                if self.active.unless_gone(self.received.notified()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Handles a message of the app. Returns an awaitable that ends once the app may continue.
    fn send(self: &Arc<Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        forked::end_if_forked();
        if self.active.is_gone() {
            return Err(PyBrokenPipeError::new_err("send a message: the client has disconnected"));
        }
        // What is sent wakes tasks of the guest, which then needn't wake the loop.
        self.shared.event_loop.turn_soon(py)?;
        let progress = match message::parse(message)? {
            Sent::Start { head, trailers } => {
                self.inner.lock().reply.start(head, trailers)?;
                return Ok(self.shared.event_loop.nothing(py));
            }
            Sent::Body { body, more } => {
                self.answer()?;
                let progress = self.inner.lock().reply.body(body, more)?;
                let names_file = self.inner.lock().reply.names_file();
                if progress.flush && names_file && self.active.session.reports_files() {
                    return self.wait_for_frontd(py);
                }
                progress
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
                let progress = self.inner.lock().reply.file(message::file(path))?;
                if self.active.session.reports_files() {
                    return self.wait_for_frontd(py);
                }
                progress
            }
            Sent::EarlyHints(headers) => {
                let hints = EarlyHints { id: self.active.id, headers };
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
        }
        if !is_full {
            return Ok(self.shared.event_loop.nothing(py));
        }
        let future = self.shared.event_loop.future(py)?;
        self.inner.lock().writers.push(future.clone().unbind());
        self.settle_later(py)?;
        event_loop::pending(&future)
    }

    /// The response names a file. Waits until frontd has opened it, since the app may remove it afterwards.
    fn wait_for_frontd(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.shared.event_loop.future(py)?;
        {
            let mut inner = self.inner.lock();
            inner.reads_file = true;
            inner.writers.push(future.clone().unbind());
        }
        self.settle_later(py)?;
        let call = Arc::clone(self);
        self.shared.event_loop.guest.spawn(async move {
            call.active.until_file_opened().await;
            call.inner.lock().reads_file = false;
            call.notify();
        });
        event_loop::pending(&future)
    }

    /// Sends the body of a response.
    async fn deliver(self: Arc<Self>, outbound: Arc<Outbound>) {
        let made_room = || {
            self.sent.notify_one();
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
        let is_new = {
            let mut inner = self.inner.lock();
            inner.stage != Stage::Done && !std::mem::replace(&mut inner.is_due, true)
        };
        if is_new {
            self.shared.event_loop.notify(Arc::clone(self) as Arc<dyn Due>);
        }
    }

    fn flush(self: &Arc<Self>) {
        let (flushed, is_returned, upload) = {
            let mut inner = self.inner.lock();
            let flushed = inner.reply.flush(self.active.id);
            let is_stream = matches!(flushed, Flushed::Stream(..));
            inner.delivers |= is_stream;
            // A body that arrives follows on the call of the response.
            let asks = is_stream && inner.stage == Stage::Running && !self.active.request.streams_body;
            let upload = if asks { inner.inbound.want() } else { None };
            if inner.reply.is_complete() {
                // What the app does afterwards has no limit.
                self.active.deadline.leave();
            }
            (flushed, inner.stage == Stage::Returned, upload)
        };
        if let Some(mut upload) = upload {
            upload.ask(&self.active);
            self.shared.event_loop.guest.spawn(Arc::clone(self).fetch(upload));
        }
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
        let is_disconnected = self.is_disconnected();
        let readers = {
            let mut inner = self.inner.lock();
            match inner.inbound.is_ready() || is_disconnected {
                true => std::mem::take(&mut inner.readers),
                false => Vec::new(),
            }
        };
        readers.iter().try_for_each(|it| event_loop::resolve(py, it))
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
        writers.iter().try_for_each(|it| event_loop::resolve(py, it))
    }

    /// The task was closed before it began, so nobody has ended this.
    fn abandon(self: &Arc<Self>) {
        let (task, failed) = {
            let mut inner = self.inner.lock();
            if inner.stage != Stage::Running {
                return;
            }
            inner.stage = Stage::Returned;
            inner.inbound.forget();
            (inner.task.take(), inner.reply.fail())
        };
        drop(task);
        self.active.deadline.leave();
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        tracing::error!(%method, %path, %request, "the app has cancelled the task of a request before it began");
        if failed {
            self.finish(Some(failure::server_error(self.active.id)));
        }
        (self.shared.ended)(self.token);
        self.notify();
    }

    fn log_aborted(&self) {
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        tracing::info!(%method, %path, %request, "the request was cancelled, since the worker ends");
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

impl Source for Call {
    fn take(self: Arc<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.next(py)
    }

    fn wait<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.reader(py)
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

impl Drop for AppCall {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

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
