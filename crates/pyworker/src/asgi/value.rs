//! Reads the values of messages that an app sends.

use std::sync::Once;

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::executor::head::{HeadBuilder, HopByHop};

/// The type of a message.
pub(super) fn kind<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let kind = message.get_item(intern!(message.py(), "type"))?;
    kind.cast_into::<PyString>().map_err(|_| PyTypeError::new_err("the type of a message isn't a string"))
}

/// Adds the headers of a message.
pub(super) fn add_headers(builder: &mut HeadBuilder, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(headers) = get(message, intern!(message.py(), "headers"))? else { return Ok(()) };
    if let Ok(headers) = headers.cast_exact::<PyList>() {
        return headers.iter().try_for_each(|header| add_header(builder, &header));
    }
    for header in headers.try_iter()? {
        add_header(builder, &header?)?;
    }
    Ok(())
}

fn add_header(builder: &mut HeadBuilder, header: &Bound<'_, PyAny>) -> PyResult<()> {
    let (name, value) = pair(header)?;
    match (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
        (Ok(name), Ok(value)) => add_raw_header(builder, name.as_bytes(), value.as_bytes()),
        _ => add_raw_header(builder, &bytes(&name)?, &bytes(&value)?),
    }
}

fn add_raw_header(builder: &mut HeadBuilder, name: &[u8], value: &[u8]) -> PyResult<()> {
    if let Some(HopByHop(header)) = builder.raw_header(name, value)?
        // Many libraries for event streams send it. It says what is the case anyway.
        && !value.eq_ignore_ascii_case(b"keep-alive")
    {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                header,
                "the app sends connection headers, which only the server may send: they are dropped"
            );
        });
    }
    Ok(())
}

fn pair<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(header) = header.cast_exact::<PyTuple>()
        && header.len() == 2
    {
        return Ok((header.get_item(0)?, header.get_item(1)?));
    }
    let mut pair = header.try_iter()?;
    match (pair.next(), pair.next(), pair.next()) {
        (Some(name), Some(value), None) => Ok((name?, value?)),
        _ => Err(PyTypeError::new_err("a header isn't a pair of name and value")),
    }
}

/// The value of a key that may be missing.
pub(super) fn get<'py>(
    message: &Bound<'py, PyAny>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match message.cast::<PyDict>() {
        Ok(message) => message.get_item(key),
        Err(_) if message.contains(key)? => message.get_item(key).map(Some),
        Err(_) => Ok(None),
    }
}

/// A boolean, which is false if it is missing.
pub(super) fn flag<'py>(message: &Bound<'py, PyAny>, key: &Bound<'py, PyString>) -> PyResult<bool> {
    get(message, key)?.map_or(Ok(false), |it| it.is_truthy())
}

/// Copies bytes, of any type that has some.
pub(super) fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
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
