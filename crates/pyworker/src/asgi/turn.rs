//! One turn of the event loop for the connections from frontd: everything that has arrived is read, requests are
//! started, and what the app has sent is written.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;

use super::call::{AppCall, Call, Callee};
use super::event_loop::{Loop, Running};
use super::first_step::Step;
use super::http::Http;
use super::scope::Scopes;
use super::shared::Shared;
use super::websocket::Socket;
use crate::executor::Host;
use crate::executor::failure::Failures;
use crate::link::active::ActiveRequest;
use crate::link::token::CallToken;
use crate::python::{forked, log};

/// The calls that are running, by their token.
pub(super) type Calls = Mutex<HashMap<u64, Arc<dyn Running>>>;

/// How long what the app has sent waits for further requests that are started in the same turn.
const HELD_FOR: Duration = Duration::from_millis(1);
/// How long a turn starts requests. After that, other tasks of the app run first.
const LONGEST_TURN: Duration = Duration::from_millis(4);
/// How often a turn handles what has come up meanwhile.
const ROUNDS: u32 = 4;

/// Starts calls of the app.
pub(super) struct Turns {
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    /// How many requests may run.
    capacity: usize,
    app: Py<PyAny>,
    /// The coroutine function that calls the app.
    run: Py<PyAny>,
    /// Sets the context variable that identifies a call.
    set_token: Py<PyAny>,
    scopes: Scopes,
    next_token: AtomicU64,
    /// Requests whose start frontd hasn't been told yet.
    held: Mutex<Vec<Arc<ActiveRequest>>>,
    /// Calls whose tasks hadn't begun when they were looked at last.
    starting: Mutex<Vec<Arc<dyn Running>>>,
    aborts: AtomicBool,
    is_over: AtomicBool,
    /// The loop was stopped, which happens once: it runs again for the app's shutdown.
    is_stopped: AtomicBool,
}

/// What calls the app, and with what.
pub(super) struct Target<'py> {
    pub(super) app: Bound<'py, PyAny>,
    pub(super) run: Bound<'py, PyAny>,
    pub(super) token: Bound<'py, PyAny>,
    pub(super) scopes: Scopes,
    pub(super) failures: Failures,
    /// Folders whose files frontd sends.
    pub(super) sendfile: Vec<PathBuf>,
}

impl Turns {
    /// Prepares to call the app for up to `capacity` requests at once.
    pub(super) fn new(
        event_loop: &Arc<Loop>,
        host: &Host,
        capacity: usize,
        target: Target<'_>,
    ) -> PyResult<Arc<Self>> {
        let Target { app, run, token, scopes, failures, sendfile } = target;
        let calls = Arc::new(Calls::default());
        let ended = Arc::clone(&calls);
        let shared = Arc::new(Shared {
            event_loop: Arc::clone(event_loop),
            requests: Arc::clone(&host.requests),
            shutdown: Arc::clone(&host.shutdown),
            load: Arc::clone(&host.load),
            driver: Arc::clone(&host.driver),
            sendfile,
            failures,
            ended: Box::new(move |token| {
                ended.lock().remove(&token);
            }),
        });
        let py = app.py();
        let turns = Arc::new(Self {
            shared,
            calls,
            capacity,
            app: app.unbind(),
            run: run.unbind(),
            set_token: token.getattr("set")?.unbind(),
            scopes,
            next_token: AtomicU64::new(1),
            held: Mutex::default(),
            starting: Mutex::default(),
            aborts: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        });
        event_loop.set_turn(turns.callback(py)?)?;
        Ok(turns)
    }

    /// What the event loop calls for a turn.
    pub(super) fn callback<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Bound::new(py, Turn(Arc::clone(self)))?.into_any())
    }

    /// The calls that are running.
    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Closes all open WebSockets, since this worker ends. Can be called on any thread.
    pub(super) fn close_sockets(&self) {
        self.shared.close_sockets();
    }

    /// Cancels the calls for requests, since this worker ends. Those for accepted WebSockets have a time of their own.
    fn cancel_requests(&self, py: Python<'_>) -> PyResult<()> {
        let calls: Vec<_> = self.calls.lock().values().cloned().collect();
        let requests = calls.iter().filter(|it| !self.shared.requests.is_socket(it.active()));
        for task in requests.filter_map(|it| it.task(py)) {
            task.call_method1("cancel", ("the worker ends",))?;
        }
        Ok(())
    }

    /// Has the loop cancel the calls for requests. Can be called on any thread.
    pub(super) fn abort(&self) {
        self.aborts.store(true, Ordering::SeqCst);
        self.shared.event_loop.guest.nudge();
    }

    /// Ends the loop after its current turn. Can be called on any thread.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.shared.event_loop.guest.nudge();
    }

    /// Whether the loop is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Makes a turn.
    pub(super) fn make(&self, py: Python<'_>) -> PyResult<()> {
        forked::end_if_forked();
        log::settle();
        let event_loop = &self.shared.event_loop;
        event_loop.settle(py);
        event_loop.guest.turn();
        self.abandon_cancelled(py);
        let is_nested = event_loop.begin_turn();
        let started = self.start_requests(py);
        for _ in 0..ROUNDS {
            event_loop.settle(py);
            event_loop.guest.run_again();
            if !event_loop.has_due() {
                break;
            }
        }
        let may_start = self.shared.requests.can_start(self.capacity)
            || self.held.lock().iter().any(|it| it.session.is_flushed());
        event_loop.end_turn(py, is_nested, may_start)?;
        started?;
        if self.shared.load.wants_tasks() {
            let tasks = py.import("asyncio")?.call_method1("all_tasks", (event_loop.object(py),));
            let tasks = tasks.and_then(|it| it.len()).unwrap_or_default();
            self.shared.load.set_tasks(u32::try_from(tasks).unwrap_or(u32::MAX));
        }
        if self.aborts.swap(false, Ordering::SeqCst) {
            self.cancel_requests(py)?;
        }
        if self.is_over() && !self.is_stopped.swap(true, Ordering::SeqCst) {
            event_loop.object(py).call_method0("stop")?;
        }
        Ok(())
    }

    /// Ends calls whose tasks the app has cancelled before their first step. Such a task runs nothing that could end
    /// its call, and keeps all objects that it refers to.
    fn abandon_cancelled(&self, py: Python<'_>) {
        let calls = std::mem::take(&mut *self.starting.lock());
        for call in calls {
            if call.has_begun() {
                continue;
            }
            let Some(task) = call.task(py) else { continue };
            match task.call_method0(intern!(py, "done")).and_then(|it| it.is_truthy()) {
                Ok(true) => call.abandon(),
                Ok(false) => self.starting.lock().push(call),
                Err(error) => tracing::error!(%error, "look at the task of a request"),
            }
        }
    }

    /// What hasn't been started when this ends is handed back if the app blocks the loop.
    fn start_requests(&self, py: Python<'_>) -> PyResult<()> {
        let mut pace = Pace::default();
        let held = std::mem::take(&mut *self.held.lock());
        self.start_told(py, held, &mut pace)?;
        let mut told = Vec::new();
        let mut started = Ok(());
        while started.is_ok()
            && pace.goes_on()
            && let Some(active) = self.shared.requests.try_next(self.capacity)
        {
            active.deadline.ignore_disconnect();
            if active.is_safe() {
                started = self.start(py, active);
                self.keep(&mut pace, py);
            } else {
                active.report_start();
                told.push(active);
            }
        }
        if told.is_empty() {
            return started;
        }
        self.shared.event_loop.guest.run_again();
        match started {
            Ok(()) => self.start_told(py, told, &mut pace),
            Err(error) => {
                self.held.lock().extend(told);
                Err(error)
            }
        }
    }

    /// Starts requests that frontd knows to have begun. The others are held until the next turn.
    fn start_told(&self, py: Python<'_>, told: Vec<Arc<ActiveRequest>>, pace: &mut Pace) -> PyResult<()> {
        let mut told = told.into_iter();
        let mut started = Ok(());
        for active in told.by_ref() {
            if !active.session.is_flushed() {
                // frontd doesn't read. Once it does, another turn follows.
                self.held.lock().push(active);
                continue;
            }
            started = self.start(py, active);
            self.keep(pace, py);
            if started.is_err() || !pace.goes_on() {
                break;
            }
        }
        self.held.lock().extend(told);
        started
    }

    /// Sends what the app has sent, if that has waited for long enough.
    fn keep(&self, pace: &mut Pace, py: Python<'_>) {
        if pace.is_due() {
            self.shared.event_loop.settle(py);
            self.shared.event_loop.guest.run_again();
        }
    }

    /// Calls the app for a request, which runs until it first waits, unless the loop doesn't support that.
    ///
    /// # Errors
    /// If the app raises what ends the loop.
    fn start(&self, py: Python<'_>, active: Arc<ActiveRequest>) -> PyResult<()> {
        let event_loop = &self.shared.event_loop;
        let (call, step) = self.prepare(py, active, |coroutine| event_loop.start_with(coroutine));
        let ran = match step? {
            Some(step) => step.run(event_loop.object(py), || call.has_begun()),
            None => Ok(()),
        };
        if !call.has_begun() {
            self.starting.lock().push(call);
        }
        ran
    }

    /// Calls the app for a request once the loop runs.
    pub(super) fn start_later(&self, py: Python<'_>, active: Arc<ActiveRequest>) -> Arc<dyn Running> {
        let start = |coroutine| Ok((self.shared.event_loop.start(coroutine)?, None));
        let (call, _failed) = self.prepare(py, active, start);
        self.starting.lock().push(Arc::clone(&call));
        call
    }

    /// Has `start` start the task of a request. Returns its first step, unless the loop runs that, or an error that isn't
    /// one of this request: it ends the loop.
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        active: Arc<ActiveRequest>,
        start: impl FnOnce(Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Option<Step>)>,
    ) -> (Arc<dyn Running>, PyResult<Option<Step>>) {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        if let Some(token) = NonZeroU64::new(token) {
            active.deadline.enter(CallToken::new(token));
        }
        let (call, app_call): (Arc<dyn Running>, Arc<dyn Callee>) = if active.websocket().is_some() {
            let call = Call::new(Socket::default(), active, token, Arc::clone(&self.shared));
            (Arc::clone(&call) as Arc<dyn Running>, call)
        } else {
            let call = Call::new(Http::of(&active), active, token, Arc::clone(&self.shared));
            (Arc::clone(&call) as Arc<dyn Running>, call)
        };
        self.calls.lock().insert(token, Arc::clone(&call));
        let app_call = Bound::new(py, AppCall(app_call)).map(Bound::into_any);
        let coroutine = app_call.and_then(|it| self.coroutine(token, &call, it));
        match coroutine.and_then(start) {
            Ok((task, step)) => {
                call.set_task(&task);
                (call, Ok(step))
            }
            Err(error) => {
                if let Err(error) = Arc::clone(&call).fail(py, &error) {
                    tracing::error!(%error, "end a request that cannot be started");
                }
                let ends_loop = !error.is_instance_of::<PyException>(py);
                (call, if ends_loop { Err(error) } else { Ok(None) })
            }
        }
    }

    fn coroutine<'py>(
        &self,
        token: u64,
        call: &Arc<dyn Running>,
        app_call: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = app_call.py();
        let scope = self.scopes.build(py, &call.active().request)?;
        // Each task copies the context, so what it sets in there is its own.
        self.set_token.bind(py).call1((token,))?;
        self.run.bind(py).call1((&self.app, scope, app_call))
    }
}

/// How long a turn runs the app.
struct Pace {
    begun: Instant,
    /// When what the app has sent was last sent on.
    sent: Instant,
    now: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self { begun: now, sent: now, now }
    }
}

impl Pace {
    /// Whether to send now. Call this after each request.
    fn is_due(&mut self) -> bool {
        self.now = Instant::now();
        let is_due = self.now - self.sent >= HELD_FOR;
        if is_due {
            self.sent = self.now;
        }
        is_due
    }

    /// Whether the turn may start another request.
    fn goes_on(&self) -> bool {
        self.now - self.begun < LONGEST_TURN
    }
}

/// What the event loop calls.
#[pyclass(name = "Turn", module = "_imperium", frozen)]
struct Turn(Arc<Turns>);

#[pymethods]
impl Turn {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.make(py)
    }
}

/// The token of the call that the calling code belongs to, from the context variable.
pub(super) fn current(variable: &Bound<'_, PyAny>) -> Option<CallToken> {
    let number: u64 = variable.call_method0(intern!(variable.py(), "get")).ok()?.extract().ok()?;
    NonZeroU64::new(number).map(CallToken::new)
}
