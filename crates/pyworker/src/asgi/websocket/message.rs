//! The events of a WebSocket (ASGI, "WebSocket").

use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::asgi::value::{add_headers, bytes, flag, get, kind};
use crate::executor::head::{Head, HeadBuilder};
use crate::link::websocket::{Closed, Received};

/// The longest reason of a close frame, in bytes (RFC 6455, section 5.5).
const REASON_LIMIT: usize = 123;

/// What the app sent.
pub(super) enum Sent {
    Accept(Head),
    Message { payload: Bytes, text: bool },
    Close { code: u32, reason: String },
    DenyStart(Head),
    DenyBody { body: Bytes, more: bool },
}

/// Reads a message of the app.
///
/// # Errors
/// If it has an unknown type, or a value that can't be sent.
pub(super) fn parse(message: &Bound<'_, PyAny>) -> PyResult<Sent> {
    let py = message.py();
    let kind = kind(message)?;
    Ok(match kind.to_str()? {
        "websocket.send" => {
            let (text, binary) =
                (given(message, intern!(py, "text"))?, given(message, intern!(py, "bytes"))?);
            if text.is_some() && binary.is_some() {
                return Err(PyValueError::new_err("a `websocket.send` has both `text` and `bytes`"));
            }
            if let Some(text) = text {
                let text = text
                    .cast::<PyString>()
                    .map_err(|_| PyTypeError::new_err("the text of a message isn't a string"))?;
                Sent::Message { payload: Bytes::copy_from_slice(text.to_str()?.as_bytes()), text: true }
            } else if let Some(binary) = binary {
                Sent::Message { payload: bytes(&binary)?, text: false }
            } else {
                return Err(PyValueError::new_err("a `websocket.send` has neither `text` nor `bytes`"));
            }
        }
        "websocket.accept" => {
            let mut builder = HeadBuilder::interim();
            add_headers(&mut builder, message)?;
            if let Some(subprotocol) = given(message, intern!(py, "subprotocol"))? {
                builder.header("sec-websocket-protocol", subprotocol.cast::<PyString>()?.to_str()?)?;
            }
            Sent::Accept(builder.build())
        }
        "websocket.close" => {
            let code = given(message, intern!(py, "code"))?.map_or(Ok(1000), |it| it.extract())?;
            if !is_sendable(code) {
                return Err(PyValueError::new_err(format!(
                    "a WebSocket can't be closed with the code {code}"
                )));
            }
            let reason: String =
                given(message, intern!(py, "reason"))?.map_or(Ok(String::new()), |it| it.extract())?;
            if reason.len() > REASON_LIMIT {
                return Err(PyValueError::new_err(format!(
                    "the reason of a close has {} bytes, more than {REASON_LIMIT}",
                    reason.len()
                )));
            }
            Sent::Close { code, reason }
        }
        "websocket.http.response.start" => {
            let status = message.get_item(intern!(py, "status"))?.extract()?;
            let mut builder = HeadBuilder::with_number(status)?;
            add_headers(&mut builder, message)?;
            Sent::DenyStart(builder.build())
        }
        "websocket.http.response.body" => {
            let body = get(message, intern!(py, "body"))?.map_or(Ok(Bytes::new()), |it| bytes(&it))?;
            Sent::DenyBody { body, more: flag(message, intern!(py, "more_body"))? }
        }
        other => {
            return Err(PyRuntimeError::new_err(format!(
                "the app sent {other:?}, which isn't a message of a WebSocket"
            )));
        }
    })
}

/// Whether a close frame may have this code (RFC 6455, section 7.4).
fn is_sendable(code: u32) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The value of a key, unless it is missing or None.
fn given<'py>(
    message: &Bound<'py, PyAny>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(get(message, key)?.filter(|it| !it.is_none()))
}

/// `websocket.connect`.
pub(super) fn connect(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.connect"))?;
    Ok(message.into_any().unbind())
}

/// `websocket.receive`.
pub(super) fn receive(py: Python<'_>, received: &Received) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
    if received.text {
        // frontd has checked it.
        let text = String::from_utf8_lossy(&received.payload);
        message.set_item(intern!(py, "text"), PyString::new(py, &text))?;
    } else {
        message.set_item(intern!(py, "bytes"), PyBytes::new(py, &received.payload))?;
    }
    Ok(message.into_any().unbind())
}

/// `websocket.disconnect`.
pub(super) fn disconnect(py: Python<'_>, closed: &Closed) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.disconnect"))?;
    message.set_item(intern!(py, "code"), closed.code)?;
    message.set_item(intern!(py, "reason"), &closed.reason)?;
    Ok(message.into_any().unbind())
}
