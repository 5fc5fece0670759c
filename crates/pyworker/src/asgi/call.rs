//! A call of the app, for a request or for a WebSocket: its task, what waits inside of it, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use api::runner::serve_response::Message;
use api::runner::{Done, Response};
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyBrokenPipeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::awaitable::{Channel, ReceiveFunction, SendFunction, Step};
use super::event_loop::{self, Due, Running};
use super::outbound::Outbound;
use super::reply::{Flushed, Progress};
use super::shared::{self, Shared};
use crate::executor::failure;
use crate::link::active::ActiveRequest;
use crate::link::body::Overrun;
use crate::python::forked;

/// From how many waiting calls of `receive` or `send` on those that the app has cancelled are looked for.
const PRUNED_FROM: usize = 16;

/// A call of the app.
pub(super) struct Call<P: Protocol> {
    pub(super) active: Arc<ActiveRequest>,
    pub(super) shared: Arc<Shared>,
    /// What tasks of the guest wait for.
    pub(super) signals: P::Signals,
    token: u64,
    /// The app's task has made its first step.
    has_begun: AtomicBool,
    /// It is in the loop's list of what is due.
    is_due: AtomicBool,
    sends: Mutex<()>,
    /// A `send` waits for room.
    is_full: AtomicBool,
    inner: Mutex<Inner<P>>,
}

/// Changed by the thread of the loop, except for bodies that arrive and leave. Never locked while Python runs.
pub(super) struct Inner<P> {
    pub(super) protocol: P,
    pub(super) stage: Stage,
    /// Futures of `receive`, in the order of the calls.
    readers: Vec<Py<PyAny>>,
    /// Futures of `send`.
    writers: Vec<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    /// The body of the response is being sent.
    delivers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The app runs.
    Running,
    /// The app has returned, but what it has sent hasn't left completely.
    Returned,
    /// frontd was told.
    Done,
}

/// What the app hasn't sent when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Nothing,
    /// The rest of the response, which was begun.
    Rest,
    /// The response.
    Response,
}

/// What a call does for HTTP, or for a WebSocket.
pub(super) trait Protocol: Send + Sized + 'static {
    type Signals: Default + Send + Sync;

    /// What the app is called for.
    const WHAT: &'static str;

    /// Takes the next message for the app, if there is one.
    fn next(call: &Arc<Call<Self>>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>>;

    /// Whether `next` would return a message, such as that the client has gone.
    fn can_receive(call: &Call<Self>) -> bool;

    /// Handles a message of the app. Returns a future if the app has to wait.
    fn send<'py>(call: &Arc<Call<Self>>, message: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>;

    /// Whether a `send` that waits may continue. Also if the client has gone.
    fn can_send(call: &Call<Self>) -> bool;

    /// Takes what is to be sent now.
    fn flush(call: &Arc<Call<Self>>) -> Flushed;

    /// A part of the body has been sent.
    fn made_room(call: &Call<Self>);

    /// The app has returned, or failed.
    fn end(&mut self, active: &ActiveRequest, has_failed: bool) -> Missing;

    /// Whether an exception of the app only says that the client has gone.
    fn is_harmless(active: &ActiveRequest, error: &PyErr, py: Python<'_>) -> bool;

    /// What to log about an app that returns with this missing.
    fn incomplete(missing: Missing) -> &'static str;

    /// Whether everything has left that the app has sent, apart from a body that is being sent.
    fn is_sent(&self, active: &ActiveRequest) -> bool;
}

impl<P: Protocol> Inner<P> {
    /// Whether everything has left that the app has sent.
    fn is_sent(&self, active: &ActiveRequest) -> bool {
        !self.delivers && self.protocol.is_sent(active)
    }
}

impl<P: Protocol> Call<P> {
    pub(super) fn new(protocol: P, active: Arc<ActiveRequest>, token: u64, shared: Arc<Shared>) -> Arc<Self> {
        let inner = Inner {
            protocol,
            stage: Stage::Running,
            readers: Vec::new(),
            writers: Vec::new(),
            task: None,
            delivers: false,
        };
        Arc::new(Self {
            active,
            shared,
            signals: P::Signals::default(),
            token,
            has_begun: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            sends: Mutex::new(()),
            is_full: AtomicBool::new(false),
            inner: Mutex::new(inner),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.inner.lock()
    }

    /// Returns a future that is resolved once `next` may have a message.
    fn reader<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.shared.event_loop.future(py)?;
        self.wait_for(&future, |it| &mut it.readers)?;
        Ok(future)
    }

    /// Returns a future that is resolved once `send` may continue.
    pub(super) fn writer<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.shared.event_loop.future(py)?;
        self.is_full.store(true, Ordering::SeqCst);
        self.wait_for(&future, |it| &mut it.writers)?;
        Ok(future)
    }

    /// Adds a future to those that a change resolves.
    fn wait_for(
        self: &Arc<Self>,
        future: &Bound<'_, PyAny>,
        list: fn(&mut Inner<P>) -> &mut Vec<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = future.py();
        let full = {
            let mut inner = self.lock();
            let list = list(&mut inner);
            list.push(future.clone().unbind());
            let is_to_be_pruned = list.len() >= PRUNED_FROM && list.len().is_power_of_two();
            if is_to_be_pruned { std::mem::take(list) } else { Vec::new() }
        };
        if !full.is_empty() {
            // The app may have cancelled those that waited.
            let waits =
                |it: &Py<PyAny>| Ok::<_, PyErr>(!it.call_method0(py, intern!(py, "done"))?.is_truthy(py)?);
            let mut waiting = full;
            waiting.retain(|it| waits(it).unwrap_or(true));
            list(&mut self.lock()).append(&mut waiting);
        }
        self.observe(py)
    }

    /// Has a change settle this, also one that has just happened.
    fn observe(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.active.wake_when_gone(&Waker::from(Arc::clone(self)));
        let (reads, writes, has_ended) = {
            let inner = self.lock();
            let has_ended = inner.stage == Stage::Returned && inner.is_sent(&self.active);
            (!inner.readers.is_empty(), !inner.writers.is_empty(), has_ended)
        };
        if has_ended || reads && P::can_receive(self) || writes && P::can_send(self) {
            self.settle_later(py)
        } else {
            Ok(())
        }
    }

    /// The response begins.
    pub(super) fn answer(&self) -> PyResult<()> {
        self.active
            .deadline
            .answer()
            .map_err(|late| PyBrokenPipeError::new_err(format!("send a message: {late}")))
    }

    /// What follows from a part of a response. Returns a future if the app has to wait.
    pub(super) fn proceed<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        progress: Progress,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
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
        if flush || is_full {
            self.settle_later(py)?;
        }
        if is_full { self.writer(py).map(Some) } else { Ok(None) }
    }

    /// The app has returned, or raised an exception.
    fn end(self: &Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        // What is sent wakes tasks of the guest. An error here comes from a signal handler, and this has to end anyway.
        let scheduled = self.shared.event_loop.turn_soon(py);
        let has_expired = self.active.deadline.leave();
        let Some(missing) = self.return_from_app(error.is_some()) else { return scheduled };
        match error {
            Some(error) if has_expired && shared::is_cancelled(py, error) => {
                self.log_end("the request that exceeded its limit has ended");
            }
            Some(error) if self.shared.aborts() && shared::is_cancelled(py, error) => {
                self.log_end("the request was cancelled, since the worker ends");
            }
            Some(error) if P::is_harmless(&self.active, error, py) => {}
            Some(error) => failure::log(py, error, &self.active),
            None if missing != Missing::Nothing && !self.active.is_gone() => {
                self.log_error(P::incomplete(missing));
            }
            None => {}
        }
        if missing == Missing::Response {
            let response = failure::server_error(self.active.id);
            let response = match error {
                Some(error) => self.shared.failures.explain(py, error, response),
                None => response,
            };
            self.finish(Some(response));
        }
        (self.shared.ended)(self.token);
        self.settle_later(py).and(scheduled)
    }

    /// The app's task ended before it began, so nobody has ended this.
    fn abandon_call(self: &Arc<Self>) {
        let Some(missing) = self.return_from_app(true) else { return };
        self.active.deadline.leave();
        self.log_error(&format!("the app has cancelled the task of {} before it began", P::WHAT));
        if missing == Missing::Response {
            self.finish(Some(failure::server_error(self.active.id)));
        }
        (self.shared.ended)(self.token);
        self.notify();
    }

    /// Returns what is missing, the first time.
    fn return_from_app(&self, has_failed: bool) -> Option<Missing> {
        let mut inner = self.lock();
        if inner.stage != Stage::Running {
            return None;
        }
        inner.stage = Stage::Returned;
        let missing = inner.protocol.end(&self.active, has_failed);
        let task = inner.task.take();
        drop(inner);
        drop(task);
        Some(missing)
    }

    /// Tells frontd that this is over, unless it was told.
    fn finish(&self, response: Option<Response>) {
        if std::mem::replace(&mut self.lock().stage, Stage::Done) == Stage::Done {
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

    /// Settles this in the next turn. Call this on the thread of the loop.
    pub(super) fn settle_later(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        match self.is_due.swap(true, Ordering::SeqCst) {
            true => self.shared.event_loop.turn_soon(py),
            false => self.shared.event_loop.later(py, Arc::clone(self) as Arc<dyn Due>),
        }
    }

    /// Settles this in the next turn. Can be called on any thread.
    pub(super) fn notify(self: &Arc<Self>) {
        if self.lock().stage != Stage::Done && !self.is_due.swap(true, Ordering::SeqCst) {
            self.shared.event_loop.notify(Arc::clone(self) as Arc<dyn Due>);
        }
    }

    /// Sends what the app has sent.
    fn send_on(self: &Arc<Self>) {
        // The helper of a blocked loop does this, too. What one has taken is sent before the other continues.
        let _one_at_a_time = self.sends.lock();
        match P::flush(self) {
            Flushed::Nothing => {}
            Flushed::Whole(response) if self.lock().stage == Stage::Returned => self.finish(Some(response)),
            Flushed::Whole(response) => self.active.session.send(Message::Response(response)),
            Flushed::Stream(response, outbound) => {
                self.lock().delivers = true;
                self.active.session.send(Message::Response(response));
                self.shared.event_loop.guest.spawn(Arc::clone(self).deliver(outbound));
            }
        }
    }

    /// Sends the body of a response.
    async fn deliver(self: Arc<Self>, outbound: Arc<Outbound>) {
        let made_room = || {
            P::made_room(&self);
            if outbound.has_room() && !self.lock().writers.is_empty() {
                self.notify();
            }
        };
        let _its_client_has_gone = outbound.deliver(&self.active, made_room).await;
        self.lock().delivers = false;
        self.notify();
    }

    /// Wakes tasks of the app that can continue.
    fn wake_app(&self, py: Python<'_>) -> PyResult<()> {
        let (reads, writes) = {
            let inner = self.lock();
            (!inner.readers.is_empty(), !inner.writers.is_empty())
        };
        let mut woken = Vec::new();
        if reads && P::can_receive(self) {
            woken = std::mem::take(&mut self.lock().readers);
        }
        if writes && P::can_send(self) {
            self.is_full.store(false, Ordering::SeqCst);
            woken.append(&mut self.lock().writers);
        }
        // A signal handler may raise meanwhile.
        woken.iter().map(|it| event_loop::resolve(py, it)).fold(Ok(()), Result::and)
    }

    fn settled(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.send_on();
        self.wake_app(py)?;
        let (stage, waits, is_sent) = {
            let inner = self.lock();
            let waits = !inner.readers.is_empty() || !inner.writers.is_empty();
            (inner.stage, waits, inner.is_sent(&self.active))
        };
        match stage {
            Stage::Returned if is_sent => self.finish(None),
            Stage::Running if !waits => {}
            Stage::Running | Stage::Returned => return self.observe(py),
            Stage::Done => {}
        }
        Ok(())
    }

    fn log_end(&self, message: &str) {
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        tracing::info!(%method, %path, %request, "{message}");
    }

    fn log_error(&self, message: &str) {
        let (method, path, request) = (self.active.method(), self.active.path(), self.active.request_id());
        tracing::error!(%method, %path, %request, "{message}");
    }
}

impl<P: Protocol> Due for Call<P> {
    fn settle(self: Arc<Self>, py: Python<'_>) {
        self.is_due.store(false, Ordering::SeqCst);
        if let Err(error) = self.settled(py) {
            tracing::error!(%error, "wake a task of the app");
        }
    }

    fn flush(self: Arc<Self>) {
        self.send_on();
    }
}

impl<P: Protocol> Running for Call<P> {
    fn active(&self) -> &Arc<ActiveRequest> {
        &self.active
    }

    fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lock().task.as_ref().map(|it| it.bind(py).clone())
    }

    fn set_task(&self, task: &Bound<'_, PyAny>) {
        let mut inner = self.lock();
        if inner.stage == Stage::Running {
            inner.task = Some(task.clone().unbind());
        }
    }

    fn fail(self: Arc<Self>, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        Self::end(&self, py, Some(error))
    }

    fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    fn abandon(self: Arc<Self>) {
        self.abandon_call();
    }
}

impl<P: Protocol> Channel for Call<P> {
    fn receive(self: Arc<Self>, py: Python<'_>) -> PyResult<Step<'_>> {
        forked::end_if_forked();
        match P::next(&self, py)? {
            Some(message) => Ok(Step::Done(Some(message))),
            None => self.reader(py).map(Step::Retry),
        }
    }

    fn send<'py>(self: Arc<Self>, message: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
        forked::end_if_forked();
        if self.is_full.load(Ordering::SeqCst) {
            // Another task of the app waits for room, so this can be no more than one message.
            return self.writer(message.py()).map(Step::Retry);
        }
        Ok(P::send(&self, message)?.map_or(Step::Done(None), Step::Wait))
    }
}

/// Woken when the client has gone, and when its WebSocket has changed.
impl<P: Protocol> Wake for Call<P> {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}

/// A call of any protocol, as its app uses it.
pub(super) trait Callee: Channel {
    fn begin(&self);
    fn end(self: Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()>;
}

impl<P: Protocol> Callee for Call<P> {
    fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    fn end(self: Arc<Self>, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        Self::end(&self, py, error)
    }
}

/// A call, as the app's side of it.
#[pyclass(name = "Call", module = "_imperium", frozen)]
pub(super) struct AppCall(pub(super) Arc<dyn Callee>);

#[pymethods]
impl AppCall {
    /// The first thing that the app's task asks for.
    #[getter]
    fn receive(&self) -> ReceiveFunction {
        self.0.begin();
        ReceiveFunction(Arc::clone(&self.0) as Arc<dyn Channel>)
    }

    #[getter]
    fn send(&self) -> SendFunction {
        SendFunction(Arc::clone(&self.0) as Arc<dyn Channel>)
    }

    /// The app has returned, or raised this exception.
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let error = error.map(PyErr::from_value);
        Arc::clone(&self.0).end(py, error.as_ref())
    }
}
