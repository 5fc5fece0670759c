//! `start_response` of one request, and the `write` callable that it returns.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use tokio::sync::Mutex;

use super::reply::{AgainError, Reply, ReplyError, Start};
use crate::executor::head::{Head, HeadBuilder};
use crate::python::driver::Driver;

/// What the app calls to start its response.
#[pyclass(name = "StartResponse", module = "imperium", frozen)]
pub(crate) struct StartResponse {
    /// The state of the response. An app may use it on several threads. A thread that sends holds the lock
    /// while the client is slow. It waits without the GIL, like others that wait for the lock.
    reply: Mutex<Reply>,
    driver: Arc<Driver>,
}

impl StartResponse {
    pub(crate) fn new(reply: Reply, driver: Arc<Driver>) -> Self {
        Self { reply: Mutex::new(reply), driver }
    }

    /// Accesses the response without waiting for the client. `act` runs no Python code.
    pub(crate) fn with<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut Reply) -> T + Send) -> T {
        match self.reply.try_lock() {
            Ok(mut reply) => act(&mut reply),
            Err(_) => self.inside(py, act),
        }
    }

    /// Like `with`, but from inside the runtime, where sending is cheaper.
    pub(crate) fn inside<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut Reply) -> T + Send) -> T {
        self.driver.wait(py, async { act(&mut *self.reply.lock().await) })
    }

    /// Sends one chunk of the body. Waits while the client is slow.
    pub(crate) fn send(&self, py: Python<'_>, piece: Bytes) -> PyResult<()> {
        let sent = self.driver.wait(py, async { self.reply.lock().await.send(piece).await });
        sent.map_err(|error| self.error(py, error))
    }

    /// The exception to raise if the response can't continue.
    pub(crate) fn error(&self, py: Python<'_>, error: ReplyError) -> PyErr {
        self.with(py, |reply| reply.overdue()).unwrap_or_else(|| error.into())
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn __call__(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyString>,
        headers: &Bound<'_, PyList>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Write> {
        let start = exc_info.map_or(Start::First, |_| Start::Exception);
        let (py, response) = (slf.py(), slf.get());
        response.with(py, |reply| reply.may_start(start)).map_err(|error| again(error, exc_info))?;
        let head = parse(status, headers)?;
        response.with(py, |reply| reply.start(head, start)).map_err(|error| again(error, exc_info))?;
        Ok(Write(slf.clone().unbind()))
    }
}

/// The `write` callable of PEP 3333, for apps that can't return an iterable.
#[pyclass(name = "Write", module = "imperium", frozen)]
pub(crate) struct Write(Py<StartResponse>);

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        self.0.get().send(py, Bytes::copy_from_slice(data.as_bytes()))
    }
}

/// The exception to raise if `start_response` was called before: that of `exc_info` once the head was sent.
fn again(error: AgainError, exc_info: Option<&Bound<'_, PyAny>>) -> PyErr {
    match (error, exc_info) {
        (AgainError::HeadSent, Some(exc_info)) => {
            exc_info.get_item(1).map_or_else(|error| error, PyErr::from_value)
        }
        _ => PyAssertionError::new_err("start_response was called twice without exc_info"),
    }
}

fn parse(status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<Head> {
    let mut builder = HeadBuilder::new(status.to_str()?)?;
    for header in headers {
        let (name, value) = pair(&header)?;
        if let Some(dropped) = builder.header(name.to_str()?, value.to_str()?)? {
            tracing::warn!(
                header = dropped.0,
                "the app sent a connection header, which only the server may send"
            );
        }
    }
    Ok(builder.build())
}

/// A header as passed by an app.
pub(super) fn pair<'py>(
    header: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let text = |at: usize| header.cast::<PyTuple>().ok()?.get_item(at).ok()?.cast_into::<PyString>().ok();
    match (header.len(), text(0), text(1)) {
        (Ok(2), Some(name), Some(value)) => Ok((name, value)),
        _ => Err(PyTypeError::new_err(format!("header {} is not a tuple of two strings", header.repr()?))),
    }
}

impl From<ReplyError> for PyErr {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::NotStarted | ReplyError::Ended => PyAssertionError::new_err(error.to_string()),
            ReplyError::Short(_) => PyValueError::new_err(error.to_string()),
            ReplyError::Gone(_) | ReplyError::TooLate(_) => PyBrokenPipeError::new_err(error.to_string()),
        }
    }
}
