//! The messages of an HTTP connection (ASGI, "HTTP & WebSocket ASGI Message Format").

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use api::runner::{File, Header, Part, file};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::asgi::value::{add_headers, bytes, flag, get, kind};
use crate::executor::head::{Head, HeadBuilder};

/// What the app sent.
pub(super) enum Sent {
    Start { head: Head, trailers: bool },
    Body { body: Bytes, more: bool },
    Trailers { headers: Vec<Header>, more: bool },
    File(PathBuf),
    EarlyHints(Vec<Header>),
}

/// Reads a message of the app.
///
/// # Errors
/// If it has an unknown type, or a value that can't be sent.
pub(super) fn parse(message: &Bound<'_, PyAny>) -> PyResult<Sent> {
    let py = message.py();
    let kind = kind(message)?;
    Ok(match kind.to_str()? {
        "http.response.start" => {
            let status = message.get_item(intern!(py, "status"))?;
            let mut builder = HeadBuilder::with_number(number(&status)?)?;
            let trailers = flag(message, intern!(py, "trailers"))?;
            if trailers {
                builder.announce_trailers();
            }
            add_headers(&mut builder, message)?;
            Sent::Start { head: builder.build(), trailers }
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
        "http.response.pathsend" => Sent::File(message.get_item("path")?.extract()?),
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

/// What frontd sends of a file, exactly with the app's head. None if the file has less than the app's Content-Length, or
/// isn't a regular file.
///
/// # Errors
/// If the file doesn't exist, or can't be looked at.
pub(super) fn file(path: &Path, content_length: Option<u64>) -> io::Result<Option<File>> {
    let found = fs::metadata(path)?;
    let length = content_length.unwrap_or(found.size());
    if !found.is_file() || length > found.size() {
        return Ok(None);
    }
    let part = Part { offset: 0, length, device: found.dev(), inode: found.ino() };
    let name = file::Name::Path(Bytes::copy_from_slice(path.as_os_str().as_bytes()));
    Ok(Some(File { name: Some(name), part: Some(part) }))
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

fn number(status: &Bound<'_, PyAny>) -> PyResult<u16> {
    status
        .extract()
        .map_err(|_| PyValueError::new_err("the status of a response isn't a number from 200 to 999"))
}
