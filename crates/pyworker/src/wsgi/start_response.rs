//! `start_response` of one request, and the `write` callable that it returns.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::head::{Head, HeadBuilder, HeadError};
use super::reply::{AgainError, Reply, ReplyError, Start};
use crate::driver::Driver;

/// What the app calls to begin its response.
#[pyclass(name = "StartResponse", module = "imperium")]
pub(crate) struct StartResponse {
    /// What has become of the response.
    pub(crate) reply: Reply,
    driver: Arc<Driver>,
}

impl StartResponse {
    /// No response yet.
    pub(crate) fn new(reply: Reply, driver: Arc<Driver>) -> Self {
        Self { reply, driver }
    }

    /// Sends one piece of the body, and waits as long as the client is slow.
    pub(crate) fn send(&mut self, py: Python<'_>, piece: Bytes) -> PyResult<()> {
        let sent = self.driver.wait(py, self.reply.send(piece));
        sent.map_err(|error| self.reply.overdue().unwrap_or_else(|| error.into()))
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
        let allowed = slf.borrow().reply.may_start(start);
        match (allowed, exc_info) {
            (Ok(()), _) => {}
            (Err(AgainError::HeadSent), Some(exc_info)) => return Err(raised(exc_info)?),
            (Err(_), _) => {
                return Err(PyAssertionError::new_err("start_response was called twice without exc_info"));
            }
        }
        let head = parse(status, headers)?;
        slf.borrow_mut().reply.start(head);
        Ok(Write(slf.clone().unbind()))
    }
}

/// The callable of PEP 3333 for apps that cannot return an iterable.
#[pyclass(name = "Write", module = "imperium", frozen)]
pub(crate) struct Write(Py<StartResponse>);

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        self.0.bind(py).borrow_mut().send(py, Bytes::copy_from_slice(data.as_bytes()))
    }
}

/// The exception of an `exc_info` triple, to be raised again.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    Ok(PyErr::from_value(exc_info.get_item(1)?))
}

fn parse(status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<Head> {
    let mut builder = HeadBuilder::new(status.to_str()?)?;
    for header in headers {
        let (name, value) = pair(&header)?;
        if let Some(dropped) = builder.header(name.to_str()?, value.to_str()?)? {
            tracing::warn!(
                header = dropped.0,
                "the app sent a header of the connection, which is not its to send"
            );
        }
    }
    Ok(builder.build())
}

/// A header as an app gives it.
pub(super) fn pair<'py>(
    header: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let text = |at: usize| header.cast::<PyTuple>().ok()?.get_item(at).ok()?.cast_into::<PyString>().ok();
    match (header.len(), text(0), text(1)) {
        (Ok(2), Some(name), Some(value)) => Ok((name, value)),
        _ => Err(PyTypeError::new_err(format!("header {} is not a tuple of two strings", header.repr()?))),
    }
}

impl From<HeadError> for PyErr {
    fn from(error: HeadError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

impl From<ReplyError> for PyErr {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::NotStarted => PyAssertionError::new_err(error.to_string()),
            ReplyError::Short(_) => PyValueError::new_err(error.to_string()),
            ReplyError::Gone(_) | ReplyError::TooLate(_) => PyBrokenPipeError::new_err(error.to_string()),
        }
    }
}
