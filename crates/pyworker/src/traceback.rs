//! Formats Python exceptions.

use pyo3::prelude::*;

/// The traceback as Python prints it, without a trailing newline.
pub(crate) fn of(py: Python<'_>, error: &PyErr) -> String {
    format(py, error).unwrap_or_else(|_| error.to_string())
}

/// The last line: type and message of the exception.
pub(crate) fn last_line(py: Python<'_>, error: &PyErr) -> String {
    let traceback = of(py, error);
    let line = traceback.lines().rev().find(|line| !line.starts_with(' ') && !line.is_empty());
    line.unwrap_or("unknown error").to_owned()
}

fn format(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // Pass all three: before Python 3.12, the value alone may lack its traceback.
    let error = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", error)?;
    let mut text = String::new();
    for line in lines.try_iter()? {
        text.push_str(&line?.extract::<std::borrow::Cow<'_, str>>()?);
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}
