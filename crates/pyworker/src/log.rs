//! What the app prints becomes events of the log.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The longest that is kept in wait for the end of a line.
const PENDING_LIMIT: usize = 64 << 10;

/// Replaces `sys.stdout` and `sys.stderr`, and gives the latter: it is `wsgi.errors` too.
///
/// They are Python's own text files on top of a raw file that ends here, so that they behave as any other.
/// What C code writes to the descriptors themselves goes where it went before.
pub(crate) fn replace_standard_files(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let sys = py.import("sys")?;
    for (name, descriptor) in [("stdout", 1), ("stderr", 2)] {
        sys.setattr(name, text_file(py, LogFile::new(name, descriptor))?)?;
    }
    sys.getattr("stderr")
}

fn text_file(py: Python<'_>, raw: LogFile) -> PyResult<Bound<'_, PyAny>> {
    let io = py.import("io")?;
    let buffer = io.call_method1("BufferedWriter", (Bound::new(py, raw)?, PENDING_LIMIT))?;
    let options = PyDict::new(py);
    options.set_item("encoding", "utf-8")?;
    options.set_item("errors", "backslashreplace")?;
    options.set_item("line_buffering", true)?;
    io.call_method("TextIOWrapper", (buffer,), Some(&options))
}

/// The raw file at the bottom.
#[pyclass(name = "LogFile", module = "imperium", frozen)]
struct LogFile {
    name: &'static str,
    descriptor: i32,
    pending: Mutex<Pending>,
}

impl LogFile {
    fn new(name: &'static str, descriptor: i32) -> Self {
        Self { name, descriptor, pending: Mutex::default() }
    }
}

#[pymethods]
impl LogFile {
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        // A memoryview, which the stable ABI of Python 3.10 has no other way to read.
        let bytes = py.get_type::<PyBytes>().call1((data,))?.cast_into::<PyBytes>()?;
        let text = self.pending.lock().push(bytes.as_bytes());
        emit(text.as_deref());
        Ok(bytes.as_bytes().len())
    }

    fn fileno(&self) -> i32 {
        self.descriptor
    }

    #[getter]
    fn name(&self) -> String {
        format!("<{}>", self.name)
    }

    #[getter]
    fn mode(&self) -> &'static str {
        "wb"
    }

    #[getter]
    fn closed(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn flush(&self) {}

    fn close(&self) {}
}

impl Drop for LogFile {
    fn drop(&mut self) {
        emit(self.pending.get_mut().end().as_deref());
    }
}

fn emit(text: Option<&str>) {
    if let Some(text) = text {
        tracing::info!("{text}");
    }
}

/// Text whose line has not ended yet.
#[derive(Debug, Default)]
struct Pending(Vec<u8>);

impl Pending {
    /// Adds what was written at once. Gives all that is pending when that ends a line, so that the lines of
    /// one message stay together.
    fn push(&mut self, bytes: &[u8]) -> Option<String> {
        self.0.extend_from_slice(bytes);
        (bytes.ends_with(b"\n") || self.0.len() > PENDING_LIMIT).then(|| self.end())?
    }

    /// Gives what is pending, however it ends; nothing if it is blank.
    fn end(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0).trim_end().to_owned();
        self.0.clear();
        Some(text).filter(|it| !it.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_message_stay_together() {
        for (writes, expected) in [
            (&["one\n"][..], &["one"][..]),
            (&["one", "\n"], &["one"]),
            (&["one\ntwo\n"], &["one\ntwo"]),
            (&["one\ntwo", "\n"], &["one\ntwo"]),
            (&["one\n", "two\n"], &["one", "two"]),
            (&["\n", " \n"], &[]),
            (&["  indented\r\n"], &["  indented"]),
        ] {
            let mut pending = Pending::default();
            let got: Vec<_> = writes.iter().filter_map(|it| pending.push(it.as_bytes())).collect();
            assert_eq!(got, expected, "{writes:?}");
        }
    }

    #[test]
    fn an_endless_line_is_bounded_and_the_last_needs_no_end() {
        let mut pending = Pending::default();
        let half = vec![b'x'; PENDING_LIMIT / 2 + 1];
        assert_eq!(pending.push(&half), None);
        assert_eq!(pending.push(&half).map(|it| it.len()), Some(2 * half.len()));
        assert_eq!(pending.push(b"rest"), None);
        assert_eq!(pending.end().as_deref(), Some("rest"));
    }
}
