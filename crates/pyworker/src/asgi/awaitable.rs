//! What an app calls `receive` and `send`, and the coroutines that they return.
//!
//! A coroutine does nothing before it is awaited. What needn't wait costs no future, and no turn of the event loop.
//! What has to wait waits for a real `asyncio.Future`, since frameworks rely on its behaviour.
//!
//! These are no coroutines of the interpreter, which would cost a frame per message, but they look like some to asyncio,
//! `inspect` and anyio.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{
    PyAttributeError, PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

/// What receives and sends the messages of a call.
pub(super) trait Channel: Send + Sync {
    /// Takes the next message.
    fn receive(self: Arc<Self>, py: Python<'_>) -> PyResult<Step<'_>>;

    /// Handles a message of the app.
    fn send<'py>(self: Arc<Self>, message: &Bound<'py, PyAny>) -> PyResult<Step<'py>>;
}

/// How far a coroutine gets.
pub(super) enum Step<'py> {
    /// It returns this, or None.
    Done(Option<Py<PyAny>>),
    /// It returns None once this future has a result.
    Wait(Bound<'py, PyAny>),
    /// It tries again once this future has a result.
    Retry(Bound<'py, PyAny>),
}

/// What a coroutine does.
struct Operation {
    channel: Arc<dyn Channel>,
    /// What it sends. Otherwise, it receives.
    message: Option<Py<PyAny>>,
}

impl Operation {
    fn perform<'py>(&self, py: Python<'py>) -> PyResult<Step<'py>> {
        let channel = Arc::clone(&self.channel);
        match &self.message {
            Some(message) => channel.send(message.bind(py)),
            None => channel.receive(py),
        }
    }
}

/// The function that returns the next message.
#[pyclass(name = "receive", module = "_imperium", frozen)]
pub(super) struct ReceiveFunction(pub(super) Arc<dyn Channel>);

/// The function that sends a message.
#[pyclass(name = "send", module = "_imperium", frozen)]
pub(super) struct SendFunction(pub(super) Arc<dyn Channel>);

#[pymethods]
impl ReceiveFunction {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<Coroutine>> {
        Coroutine::create(py, Operation { channel: Arc::clone(&self.0), message: None })
    }

    /// `inspect` takes for a function what has the attributes of one.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        attribute(&Model::of(py)?.receive, py, name)
    }
}

#[pymethods]
impl SendFunction {
    fn __call__(&self, message: Bound<'_, PyAny>) -> PyResult<Py<Coroutine>> {
        let py = message.py();
        Coroutine::create(py, Operation { channel: Arc::clone(&self.0), message: Some(message.unbind()) })
    }

    /// As for `receive`.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        attribute(&Model::of(py)?.send, py, name)
    }
}

fn attribute<'py>(model: &Py<PyAny>, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match name {
        "__name__" | "__qualname__" | "__code__" | "__defaults__" | "__kwdefaults__" | "__annotations__" => {
            model.bind(py).getattr(name)
        }
        _ => Err(PyAttributeError::new_err(name.to_owned())),
    }
}

/// What `receive` and `send` return.
#[pyclass(name = "coroutine", module = "_imperium", frozen)]
pub(super) struct Coroutine(Mutex<State>);

enum State {
    Created(Operation),
    Waiting {
        /// That of the future.
        iterator: Py<PyAny>,
        /// What is to be done afterwards. So a message is taken only when the app's task continues: if it is
        /// cancelled instead, the next `receive` gets the message.
        then: Option<Operation>,
    },
    /// It runs, or has ended.
    Over,
}

/// The last coroutine, which is used again if nobody has kept it.
static LAST: Mutex<Option<Py<Coroutine>>> = Mutex::new(None);

impl Coroutine {
    fn create(py: Python<'_>, operation: Operation) -> PyResult<Py<Self>> {
        #[expect(deprecated, reason = "what replaces it is unsafe")]
        let is_unused = |last: &&Py<Self>| last.get_refcnt(py) == 1;
        let unused = LAST.lock().as_ref().filter(is_unused).map(|it| it.clone_ref(py));
        if let Some(unused) = unused {
            let before = std::mem::replace(&mut *unused.get().0.lock(), State::Created(operation));
            before.end(py);
            return Ok(unused);
        }
        let created = Py::new(py, Self(Mutex::new(State::Created(operation))))?;
        let _before = LAST.lock().replace(created.clone_ref(py));
        Ok(created)
    }

    fn take(&self) -> State {
        std::mem::replace(&mut *self.0.lock(), State::Over)
    }

    /// Continues. `resume` does so with a future.
    fn advance<'py>(
        &self,
        py: Python<'py>,
        resume: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let operation = match self.take() {
            State::Created(operation) => operation,
            State::Waiting { iterator, then } => {
                match (resume(iterator.bind(py)), then) {
                    (Ok(future), then) => {
                        *self.0.lock() = State::Waiting { iterator, then };
                        return Ok(Some(future));
                    }
                    (Err(error), Some(then)) if error.is_instance_of::<PyStopIteration>(py) => then,
                    // It has a result, which is None.
                    (Err(error), None) if error.is_instance_of::<PyStopIteration>(py) => return Ok(None),
                    (Err(error), _) => return Err(error),
                }
            }
            State::Over => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        let (future, then) = match operation.perform(py)? {
            Step::Done(None) => return Ok(None),
            Step::Done(Some(value)) => return Err(PyStopIteration::new_err((value,))),
            Step::Wait(future) => (future, None),
            Step::Retry(future) => (future, Some(operation)),
        };
        let iterator = future.call_method0(intern!(py, "__await__"))?;
        let future = iterator.call_method0(intern!(py, "__next__"))?;
        *self.0.lock() = State::Waiting { iterator: iterator.unbind(), then };
        Ok(Some(future))
    }
}

impl State {
    /// Nobody awaits it any more.
    fn end(self, py: Python<'_>) {
        let Self::Created(operation) = self else { return };
        let text = match operation.message {
            Some(_) => c"coroutine 'send' was never awaited, so its message isn't sent",
            None => c"coroutine 'receive' was never awaited",
        };
        if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), text, 1) {
            error.write_unraisable(py, None);
        }
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        let state = std::mem::replace(self.0.get_mut(), State::Over);
        if matches!(state, State::Created(_)) {
            let _python_has_ended = Python::try_attach(|py| state.end(py));
        }
    }
}

#[pymethods]
impl Coroutine {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.advance(py, |iterator| iterator.call_method0(intern!(py, "__next__")))
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !value.is_none() && matches!(*self.0.lock(), State::Created(_)) {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
        }
        let step = self.advance(py, |iterator| iterator.call_method1(intern!(py, "send"), (value,)))?;
        step.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        kind: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _it_has_its_own = traceback;
        let raised = exception(kind, value);
        match self.take() {
            State::Created(_) => Err(raised),
            State::Waiting { iterator, then } => {
                let future = iterator.bind(py).call_method1(intern!(py, "throw"), (raised.value(py),))?;
                *self.0.lock() = State::Waiting { iterator, then };
                Ok(future)
            }
            State::Over => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.take() {
            State::Waiting { iterator, .. } => iterator.bind(py).call_method0(intern!(py, "close")).map(drop),
            State::Created(_) | State::Over => Ok(()),
        }
    }

    /// For `inspect.iscoroutine`, and what does the same.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("types")?.getattr("CoroutineType")
    }

    #[getter(__name__)]
    fn name(&self) -> &'static str {
        match &*self.0.lock() {
            State::Created(it) | State::Waiting { then: Some(it), .. } if it.message.is_none() => "receive",
            State::Created(_) | State::Waiting { .. } => "send",
            State::Over => "coroutine",
        }
    }

    #[getter(__qualname__)]
    fn qualified_name(&self) -> &'static str {
        self.name()
    }

    #[getter]
    fn cr_running(&self) -> bool {
        false
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        matches!(*self.0.lock(), State::Waiting { .. })
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*self.0.lock() {
            State::Waiting { iterator, .. } => Some(iterator.clone_ref(py)),
            State::Created(_) | State::Over => None,
        }
    }

    /// Python 3.10 tells from the frame whether a coroutine is suspended.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let model = Model::of(py)?;
        let generator = match *self.0.lock() {
            State::Created(_) => &model.created,
            State::Waiting { .. } => &model.suspended,
            State::Over => return Ok(None),
        };
        generator.bind(py).getattr("gi_frame").map(Some)
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Model::of(py)?.receive.bind(py).getattr("__code__")
    }

    #[getter]
    fn cr_origin(&self) -> Option<Py<PyAny>> {
        None
    }
}

/// Functions written in Python, whose attributes stand for those of ours.
struct Model {
    receive: Py<PyAny>,
    send: Py<PyAny>,
    /// A generator that hasn't started.
    created: Py<PyAny>,
    suspended: Py<PyAny>,
}

impl Model {
    fn of(py: Python<'_>) -> PyResult<&'static Self> {
        static MODEL: PyOnceLock<Model> = PyOnceLock::new();
        MODEL.get_or_try_init(py, || {
            let code = c"
async def receive(): pass
async def send(message): pass
def waits(): yield
created, suspended = waits(), waits()
next(suspended)
";
            let module = PyModule::from_code(py, code, c"<imperium>", c"_imperium_channel")?;
            let get = |name: &str| module.getattr(name).map(Bound::unbind);
            Ok(Self {
                receive: get("receive")?,
                send: get("send")?,
                created: get("created")?,
                suspended: get("suspended")?,
            })
        })
    }
}

/// The exception that is thrown into a coroutine as an instance, or as its class and argument.
fn exception(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    let instance = match value {
        Some(value) if value.is_instance_of::<PyBaseException>() => Ok(value.clone()),
        Some(value) if !value.is_none() => kind.call1((value,)),
        _ if kind.is_callable() => kind.call0(),
        _ => Ok(kind.clone()),
    };
    instance.map_or_else(
        |error| error,
        |it| match it.is_instance_of::<PyBaseException>() {
            true => PyErr::from_value(it),
            false => {
                PyTypeError::new_err("exceptions must be classes or instances deriving from BaseException")
            }
        },
    )
}
