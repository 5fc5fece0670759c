//! The messages of an HTTP connection (ASGI, "HTTP & WebSocket ASGI Message Format").

use api::runner::{File, Header, file};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

use crate::executor::head::{Head, HeadBuilder};

/// What the app sent.
pub(super) enum Sent {
    Start { head: Head, trailers: bool },
    Body { body: Bytes, more: bool },
    Trailers { headers: Vec<Header>, more: bool },
    File(File),
    EarlyHints(Vec<Header>),
}

/// Reads a message of the app.
///
/// # Errors
/// If it has an unknown type, or a value that can't be sent.
pub(super) fn parse(message: &Bound<'_, PyAny>) -> PyResult<Sent> {
    let py = message.py();
    let kind = message.get_item(intern!(py, "type"))?;
    let kind =
        kind.cast::<PyString>().map_err(|_| PyTypeError::new_err("the type of a message isn't a string"))?;
    Ok(match kind.to_str()? {
        "http.response.start" => {
            let status = message.get_item(intern!(py, "status"))?;
            let mut builder = HeadBuilder::with_number(number(&status)?)?;
            add_headers(&mut builder, message)?;
            Sent::Start { head: builder.build(), trailers: flag(message, intern!(py, "trailers"))? }
        }
        "http.response.body" => {
            let body = match get(message, intern!(py, "body"))? {
                Some(body) => bytes(&body)?,
                None => Bytes::new(),
            };
            Sent::Body { body, more: flag(message, intern!(py, "more_body"))? }
        }
        "http.response.trailers" => {
            let mut builder = HeadBuilder::interim();
            add_headers(&mut builder, message)?;
            let more = flag(message, intern!(py, "more_trailers"))?;
            Sent::Trailers { headers: builder.build().headers, more }
        }
        "http.response.pathsend" => {
            let path = message.get_item("path")?.extract::<std::path::PathBuf>()?;
            let path = std::os::unix::ffi::OsStringExt::into_vec(path.into_os_string());
            Sent::File(File { name: Some(file::Name::Path(path.into())), part: None })
        }
        "http.response.early_hint" => {
            let mut builder = HeadBuilder::interim();
            for link in message.get_item("links")?.try_iter()? {
                builder.raw_header(b"link", &bytes(&link?)?)?;
            }
            Sent::EarlyHints(builder.build().headers)
        }
        other => {
            return Err(PyRuntimeError::new_err(format!(
                "the app sent {other:?}, which isn't a message of HTTP"
            )));
        }
    })
}

/// `http.request`.
pub(super) fn request(py: Python<'_>, body: &Bytes, more: bool) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, body))?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message.into_any().unbind())
}

/// `http.disconnect`.
pub(super) fn disconnect(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message.into_any().unbind())
}

fn add_headers(builder: &mut HeadBuilder, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(headers) = get(message, intern!(message.py(), "headers"))? else { return Ok(()) };
    for header in headers.try_iter()? {
        let header = header?;
        let wrong = || PyTypeError::new_err("a header isn't a pair of name and value");
        let mut pair = header.try_iter()?;
        let (Some(name), Some(value), None) = (pair.next(), pair.next(), pair.next()) else {
            return Err(wrong());
        };
        let (name, value) = (name?, value?);
        if let Some(dropped) = builder.raw_header(&bytes(&name)?, &bytes(&value)?)? {
            tracing::warn!(
                header = dropped.0,
                "the app sent a connection header, which only the server may send"
            );
        }
    }
    Ok(())
}

/// The value of a key that may be missing.
fn get<'py>(message: &Bound<'py, PyAny>, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match message.cast::<PyDict>() {
        Ok(message) => message.get_item(key),
        Err(_) if message.contains(key)? => message.get_item(key).map(Some),
        Err(_) => Ok(None),
    }
}

fn flag<'py>(message: &Bound<'py, PyAny>, key: &Bound<'py, PyString>) -> PyResult<bool> {
    get(message, key)?.map_or(Ok(false), |it| it.is_truthy())
}

fn number(status: &Bound<'_, PyAny>) -> PyResult<u16> {
    status
        .extract()
        .map_err(|_| PyValueError::new_err("the status of a response isn't a number from 200 to 999"))
}

fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let copy = value.py().get_type::<PyBytes>().call1((value,))?;
        return Ok(Bytes::copy_from_slice(copy.cast::<PyBytes>()?.as_bytes()));
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("a message has {kind} where it needs bytes")))
}
