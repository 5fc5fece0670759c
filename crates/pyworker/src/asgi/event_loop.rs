//! The app's event loop, as far as calls of the app need it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::first_step::{FirstSteps, Step};
use crate::link::active::ActiveRequest;
use crate::link::guest::Guest;

/// The loop, its guest, and what is to be done in its next turn.
pub(super) struct Loop {
    /// The connections from frontd.
    pub(super) guest: Arc<Guest>,
    object: Py<PyAny>,
    create_future: Py<PyAny>,
    create_task: Py<PyAny>,
    get_task_factory: Py<PyAny>,
    /// None if a task of this loop may do more than to schedule its first step.
    first_steps: Option<FirstSteps>,
    /// Makes the loop call a turn.
    turn_soon: OnceLock<Py<PyAny>>,
    due: Mutex<Vec<Arc<dyn Due>>>,
    /// A turn is being made, which does everything that is asked for meanwhile.
    is_turning: AtomicBool,
}

/// Something that has changed, and that Python has to know.
pub(super) trait Due: Send + Sync {
    /// Tells Python, and frontd. Called on the thread of the loop.
    fn settle(self: Arc<Self>, py: Python<'_>);

    /// Tells frontd as much as it can without Python, since the loop is blocked. Called on any thread.
    fn flush(self: Arc<Self>) {}
}

/// A call of the app that hasn't returned.
pub(super) trait Running: Send + Sync {
    /// Its request.
    fn active(&self) -> &Arc<ActiveRequest>;

    /// The task that runs it.
    fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>>;

    /// Keeps its task, until it has returned.
    fn set_task(&self, task: &Bound<'_, PyAny>);

    /// It couldn't be started.
    fn fail(self: Arc<Self>, py: Python<'_>, error: &PyErr) -> PyResult<()>;

    /// Whether its task has made its first step.
    fn has_begun(&self) -> bool;

    /// Its task has ended without its first step.
    fn abandon(self: Arc<Self>);
}

impl Loop {
    /// Wraps an event loop, with a guest that has no connections yet. With the `attributes` of the loop, first steps of
    /// tasks can be caught.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub(super) fn new(
        object: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Arc<Self>> {
        let method = |name: &str| object.getattr(name).map(Bound::unbind);
        Ok(Arc::new(Self {
            guest: Guest::new()?,
            create_future: method("create_future")?,
            create_task: method("create_task")?,
            get_task_factory: method("get_task_factory")?,
            first_steps: attributes.map(FirstSteps::of).transpose()?,
            object: object.clone().unbind(),
            turn_soon: OnceLock::new(),
            due: Mutex::default(),
            is_turning: AtomicBool::new(false),
        }))
    }

    /// The event loop itself.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Sets what makes a turn. Turns are made in a copy of the present context, and not in that of the app's task which
    /// happens to ask for one: the tasks of new requests would inherit what it has set.
    pub(super) fn set_turn(&self, turn: Bound<'_, PyAny>) -> PyResult<()> {
        let py = turn.py();
        let context = PyDict::new(py);
        context.set_item("context", py.import("contextvars")?.call_method0("copy_context")?)?;
        let call_soon = self.object.bind(py).getattr("call_soon")?;
        let turn_soon = py.import("functools")?.call_method("partial", (call_soon, turn), Some(&context))?;
        self.turn_soon.get_or_init(|| turn_soon.unbind());
        Ok(())
    }

    /// Settles `due` in the next turn. Call this on the thread of the loop.
    pub(super) fn later(&self, py: Python<'_>, due: Arc<dyn Due>) -> PyResult<()> {
        self.due.lock().push(due);
        self.turn_soon(py)
    }

    /// Makes a turn after what the loop does now. Call this on the thread of the loop.
    pub(super) fn turn_soon(&self, py: Python<'_>) -> PyResult<()> {
        if self.guest.promise() && !self.is_turning.load(Ordering::Relaxed) {
            self.schedule_turn(py)?;
        }
        Ok(())
    }

    /// The loop's turn begins to run the app. Until `end_turn`, nobody has to ask for a turn. Returns whether another
    /// turn runs the app, which runs the loop.
    pub(super) fn begin_turn(&self) -> bool {
        self.guest.promise();
        self.is_turning.swap(true, Ordering::Relaxed)
    }

    /// Ends what `begin_turn` began. Schedules another turn if that `is_needed`, or if there is something to do.
    pub(super) fn end_turn(&self, py: Python<'_>, is_nested: bool, is_needed: bool) -> PyResult<()> {
        self.is_turning.store(is_nested, Ordering::Relaxed);
        if is_needed || self.has_due() || !self.guest.end_promise() {
            self.schedule_turn(py)?;
        }
        Ok(())
    }

    fn schedule_turn(&self, py: Python<'_>) -> PyResult<()> {
        let Some(turn_soon) = self.turn_soon.get() else { return Ok(()) };
        // It runs Python, which may raise what a signal handler does.
        turn_soon.bind(py).call0().inspect_err(|_| self.guest.break_promise()).map(drop)
    }

    /// Whether something has become due since `settle`.
    pub(super) fn has_due(&self) -> bool {
        !self.due.lock().is_empty()
    }

    /// Settles `due` in the next turn. Can be called on any thread.
    pub(super) fn notify(&self, due: Arc<dyn Due>) {
        self.due.lock().push(due);
        self.guest.nudge();
    }

    /// Settles everything that is due.
    pub(super) fn settle(&self, py: Python<'_>) {
        let due = std::mem::take(&mut *self.due.lock());
        for due in due {
            due.settle(py);
        }
    }

    /// Sends what the app has sent, although the loop is blocked. Can be called on any thread.
    pub(super) fn flush(&self) {
        let due = self.due.lock().clone();
        for due in due {
            due.flush();
        }
    }

    /// Starts a task.
    pub(super) fn start<'py>(&self, coroutine: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.create_task.bind(coroutine.py()).call1((coroutine,))
    }

    /// Starts a task. Unless the loop does that itself, the caller has to run its first step.
    pub(super) fn start_with<'py>(
        &self,
        coroutine: Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Step>)> {
        let py = coroutine.py();
        match &self.first_steps {
            Some(steps) if self.get_task_factory.bind(py).call0()?.is_none() => {
                steps.catch(self.object(py), || self.start(coroutine))
            }
            _ => Ok((self.start(coroutine)?, None)),
        }
    }

    /// Returns a new future.
    pub(super) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }
}

/// Wakes what waits for a future, unless that was cancelled.
pub(super) fn resolve(py: Python<'_>, future: &Py<PyAny>) -> PyResult<()> {
    if future.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    future.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
}
