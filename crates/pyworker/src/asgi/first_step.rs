//! Runs the first step of a task at once.
//!
//! A task schedules its first step with the loop's `call_soon`, so the loop would go round once more before a request
//! reaches the app. Here, that call is caught, and the step runs within the turn that starts the request. The task is
//! a standard one on each CPython; `eager_start` exists only since 3.12.

use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Catches the first steps of the tasks of one loop.
pub(super) struct FirstSteps {
    /// The attributes of the loop. One of these hides the method of the loop's class.
    attributes: Py<PyDict>,
    caught: Py<Caught>,
    /// The names of asyncio.
    asyncio: Py<PyDict>,
}

/// Takes the place of the loop's `call_soon` while a task is created.
#[pyclass(name = "Caught", module = "_imperium", frozen)]
struct Caught(Mutex<Vec<Step>>);

/// A call of `call_soon`: usually the step of a task.
pub(super) struct Step {
    arguments: Py<PyTuple>,
    options: Option<Py<PyDict>>,
}

#[pymethods]
impl Caught {
    #[pyo3(signature = (*arguments, **options))]
    fn __call__(&self, arguments: Bound<'_, PyTuple>, options: Option<Bound<'_, PyDict>>) {
        self.0.lock().push(Step { arguments: arguments.unbind(), options: options.map(Bound::unbind) });
    }
}

impl FirstSteps {
    /// Catches those of the loop with these `attributes`. Creating a task of that loop must do nothing but that.
    pub(super) fn of(attributes: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = attributes.py();
        let caught = Bound::new(py, Caught(Mutex::default()))?.unbind();
        let asyncio = py.import("asyncio")?.dict().unbind();
        Ok(Self { attributes: attributes.clone().unbind(), caught, asyncio })
    }

    /// Creates a task of `event_loop` with `create`. Returns its first step, unless somebody else has replaced the
    /// loop's `call_soon`: then that has scheduled it.
    pub(super) fn catch<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        create: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Step>)> {
        let py = event_loop.py();
        let (attributes, name) = (self.attributes.bind(py), intern!(py, "call_soon"));
        // nest_asyncio runs loops within tasks, which can't be within a turn.
        let is_nested = self.asyncio.bind(py).contains(intern!(py, "_nest_patched"))?;
        if is_nested || attributes.contains(name)? {
            return Ok((create()?, None));
        }
        attributes.set_item(name, &self.caught)?;
        let task = create();
        attributes.del_item(name)?;
        let mut first = None;
        for step in std::mem::take(&mut *self.caught.get().0.lock()) {
            match &task {
                Ok(task) if first.is_none() && step.is_of(task) => first = Some(step),
                // A finalizer of the app ran meanwhile.
                _ => step.schedule(event_loop)?,
            }
        }
        Ok((task?, first))
    }
}

impl Step {
    fn is_of(&self, task: &Bound<'_, PyAny>) -> bool {
        let py = task.py();
        let callback = self.arguments.bind(py).get_item(0);
        callback.and_then(|it| it.getattr(intern!(py, "__self__"))).is_ok_and(|it| it.is(task))
    }

    /// Runs it. If it can't run now, `event_loop` runs it later. `has_begun` tells whether it ran.
    ///
    /// # Errors
    /// If the app raises `SystemExit` or `KeyboardInterrupt`, which end the loop.
    pub(super) fn run(&self, event_loop: &Bound<'_, PyAny>, has_begun: impl Fn() -> bool) -> PyResult<()> {
        let py = event_loop.py();
        let arguments = self.arguments.bind(py);
        let context = match &self.options {
            Some(options) => options.bind(py).get_item(intern!(py, "context"))?,
            None => None,
        };
        let Some(context) = context else { return self.schedule(event_loop) };
        match context.call_method1(intern!(py, "run"), arguments) {
            Ok(_) => Ok(()),
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            Err(error) if has_begun() => report(event_loop, &error),
            // Another task runs, since the app runs its loop within a task.
            Err(_) => self.schedule(event_loop),
        }
    }

    fn schedule(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let options = self.options.as_ref().map(|it| it.bind(py));
        event_loop.call_method(intern!(py, "call_soon"), self.arguments.bind(py), options).map(drop)
    }
}

/// What a loop does with an error of a callback.
fn report(event_loop: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let context = PyDict::new(py);
    context.set_item("message", "a step of a task failed")?;
    context.set_item("exception", error.value(py))?;
    event_loop.call_method1("call_exception_handler", (context,)).map(drop)
}
