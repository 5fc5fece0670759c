//! What `receive` and `send` return: awaitables that an app may also pass to `asyncio.create_task`.
//!
//! What is complete costs no future, and no turn of the event loop. What isn't waits for a real `asyncio.Future`, since
//! frameworks rely on its behaviour.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;

/// An awaitable with a result.
#[pyclass(name = "Completed", module = "_imperium", frozen)]
pub(super) struct Completed(Option<Py<PyAny>>);

impl Completed {
    /// One with this result.
    pub(super) fn with(value: Py<PyAny>) -> Self {
        Self(Some(value))
    }

    /// One whose result is `None`.
    pub(super) fn empty() -> Self {
        Self(None)
    }
}

#[pymethods]
impl Completed {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Its end is its result.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.0 {
            None => Ok(None),
            Some(value) => Err(PyStopIteration::new_err((value.clone_ref(py),))),
        }
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err((self.0.as_ref().map(|it| it.clone_ref(py)),)))
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _it_has_its_own = traceback;
        Err(exception(kind, value))
    }

    fn close(&self) {}
}

/// Where a `receive` that was woken takes its message.
pub(super) trait Source: Send + Sync {
    /// Takes the next message, if there is one.
    fn take(self: Arc<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>>;

    /// A future that wakes it once there may be one.
    fn wait<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// An awaitable that waits for a future. A message is taken only when the app's task continues: if it is cancelled
/// instead, the next `receive` gets the message.
#[pyclass(name = "Pending", module = "_imperium", frozen)]
pub(super) struct Pending {
    /// That of the future.
    iterator: Mutex<Py<PyAny>>,
    source: Option<Arc<dyn Source>>,
}

impl Pending {
    /// Waits for `future`, then takes the result from `source`.
    pub(super) fn new(future: &Bound<'_, PyAny>, source: Option<Arc<dyn Source>>) -> PyResult<Self> {
        Ok(Self { iterator: Mutex::new(iterator_of(future)?), source })
    }

    fn iterator(&self, py: Python<'_>) -> Py<PyAny> {
        self.iterator.lock().clone_ref(py)
    }

    /// What a step of the future means for this.
    fn advance<'py>(
        &self,
        py: Python<'py>,
        step: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (error, source) = match (step, &self.source) {
            (Err(error), Some(source)) if error.is_instance_of::<PyStopIteration>(py) => (error, source),
            (step, _) => return step,
        };
        drop(error);
        if let Some(message) = Arc::clone(source).take(py)? {
            return Err(PyStopIteration::new_err((message,)));
        }
        // Another `receive` has taken it.
        let next = iterator_of(&Arc::clone(source).wait(py)?)?;
        let step = next.bind(py).call_method0(intern!(py, "__next__"));
        let _done = std::mem::replace(&mut *self.iterator.lock(), next);
        step
    }
}

fn iterator_of(future: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    Ok(future.call_method0(intern!(future.py(), "__await__"))?.unbind())
}

#[pymethods]
impl Pending {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let step = self.iterator(py).bind(py).call_method0(intern!(py, "__next__"));
        self.advance(py, step)
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let step = self.iterator(py).bind(py).call_method1(intern!(py, "send"), (value,));
        self.advance(py, step)
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
        self.iterator(py).bind(py).call_method1(intern!(py, "throw"), (raised.value(py),))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.iterator(py).bind(py).call_method0(intern!(py, "close")).map(drop)
    }
}

/// The exception that is thrown into a coroutine as an instance, or as its class and argument.
fn exception(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    let instance = match value {
        Some(value) if !value.is_none() => Ok(value.clone()),
        _ if kind.is_callable() => kind.call0(),
        _ => Ok(kind.clone()),
    };
    instance.map_or_else(
        |error| error,
        |it| match it.is_instance_of::<pyo3::exceptions::PyBaseException>() {
            true => PyErr::from_value(it),
            false => {
                PyTypeError::new_err("exceptions must be classes or instances deriving from BaseException")
            }
        },
    )
}
