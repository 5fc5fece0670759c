//! Python's exceptions as text.

use pyo3::prelude::*;

/// The traceback as Python prints it, without the last line's end.
pub(crate) fn of(py: Python<'_>, error: &PyErr) -> String {
    format(py, error).unwrap_or_else(|_| error.to_string())
}

/// One line: the exception and what it says.
pub(crate) fn last_line(py: Python<'_>, error: &PyErr) -> String {
    let traceback = of(py, error);
    let line = traceback.lines().rev().find(|line| !line.starts_with(' ') && !line.is_empty());
    line.unwrap_or("unknown error").to_owned()
}

fn format(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // All three: before Python 3.12 the value alone need not know its traceback yet.
    let error = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", error)?;
    let mut text = String::new();
    for line in lines.try_iter()? {
        text.push_str(&line?.extract::<std::borrow::Cow<'_, str>>()?);
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}
