//! `wsgi.input`: the body of a request, as a binary Python file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};
use tokio::sync::Mutex;

use super::interrupt;
use super::request_body::{RequestBody, Stop};
use crate::link::active::ActiveRequest;
use crate::link::body::ReadError;
use crate::python::driver::Driver;

/// The body of a request. A small one is in memory, others are fetched while they are read.
#[pyclass(name = "Input", module = "imperium", frozen)]
pub(crate) struct Input {
    /// Locked while a thread reads, which waits without the GIL.
    body: Mutex<RequestBody>,
    state: AtomicU8,
    active: Arc<ActiveRequest>,
    driver: Arc<Driver>,
}

const OPEN: u8 = 0;
/// Closed by the app.
const CLOSED: u8 = 1;
/// The request has ended.
const OVER: u8 = 2;

impl Input {
    /// The body of the request of `active`.
    pub(crate) fn new(active: &Arc<ActiveRequest>, driver: &Arc<Driver>) -> Self {
        let body = Mutex::new(RequestBody::of(&active.request));
        let (active, driver) = (Arc::clone(active), Arc::clone(driver));
        Self { body, state: AtomicU8::new(OPEN), active, driver }
    }

    /// The request has ended: code that kept the file can't read from it any more.
    pub(crate) fn end(&self) {
        self.state.store(OVER, Ordering::Relaxed);
        // If another thread is reading, the end of the request stops it.
        if let Ok(mut body) = self.body.try_lock() {
            body.forget();
        }
    }

    fn check_open(&self) -> PyResult<()> {
        match self.state.load(Ordering::Relaxed) {
            OPEN => Ok(()),
            CLOSED => Err(PyValueError::new_err("I/O operation on closed file")),
            _ => Err(PyOSError::new_err("read the request body: the request is over")),
        }
    }

    /// Reads up to `limit` bytes, and not beyond `stop`.
    fn take<'py>(&self, py: Python<'py>, limit: usize, stop: Stop) -> PyResult<Bound<'py, PyBytes>> {
        self.check_open()?;
        let at_hand = self.body.try_lock().ok().and_then(|mut body| body.take_at_hand(limit, stop));
        let taken = match at_hand {
            Some(taken) => Ok(taken),
            None => {
                self.driver.wait(py, async { self.body.lock().await.take(limit, stop, &self.active).await })
            }
        };
        let taken = taken.map_err(|error| self.error(&error))?;
        Ok(PyBytes::new(py, &taken))
    }

    /// Accesses the body. `act` runs no Python code.
    fn with<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut RequestBody) -> T + Send) -> PyResult<T> {
        self.check_open()?;
        Ok(match self.body.try_lock() {
            Ok(mut body) => act(&mut body),
            Err(_) => self.driver.wait(py, async { act(&mut *self.body.lock().await) }),
        })
    }

    fn error(&self, error: &ReadError) -> PyErr {
        interrupt::due(&self.active).unwrap_or_else(|| PyOSError::new_err(error.to_string()))
    }

    fn fill(&self, buffer: &Bound<'_, PyAny>, stop: Stop) -> PyResult<usize> {
        let py = buffer.py();
        // The stable ABI of Python 3.10 has no other way to write to a buffer.
        let view =
            py.import("builtins")?.call_method1("memoryview", (buffer,))?.call_method1("cast", ("B",))?;
        let read = self.take(py, view.len()?, stop)?;
        let length = read.as_bytes().len();
        view.set_item(PySlice::new(py, 0, length.cast_signed(), 1), read)?;
        Ok(length)
    }
}

#[pymethods]
impl Input {
    /// Reads exactly `size` bytes, fewer at the end of the body. Without a size, reads everything that is
    /// left.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::Never)
    }

    /// Reads up to `size` bytes with at most one wait. Empty at the end of the body.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::Piece)
    }

    /// Reads everything that is left.
    fn readall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, usize::MAX, Stop::Never)
    }

    /// Fills any writable `buffer`, and returns the number of bytes. It is smaller than the buffer only at
    /// the end of the body.
    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.fill(buffer, Stop::Never)
    }

    /// Fills `buffer` with at most one wait, and returns the number of bytes. 0 at the end of the body.
    fn readinto1(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.fill(buffer, Stop::Piece)
    }

    /// Reads a line including its end, but at most `size` bytes. Empty at the end of the body.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::LineEnd)
    }

    /// Reads all remaining lines, or lines until they have `hint` bytes in total.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let hint = hint.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(usize::MAX);
        let (lines, mut size) = (PyList::empty(py), 0);
        while size < hint {
            let line = self.readline(py, None)?;
            if line.as_bytes().is_empty() {
                break;
            }
            size += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.check_open()?;
        Ok(slf)
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.readline(py, None).map(|line| Some(line).filter(|it| !it.as_bytes().is_empty()))
    }

    /// Whether `seek` can go back: always if the body is small, otherwise until the response starts.
    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |body| body.can_go_back(&self.active))
    }

    /// Returns the current offset.
    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |body| body.position())
    }

    /// Moves to `offset`, relative to `whence` as in Python's files. Returns the new offset.
    #[pyo3(signature = (offset, whence = 0, /))]
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let from = self.with(py, |body| match whence {
            0 => Some(0),
            1 => Some(body.position()),
            2 => Some(body.length()),
            _ => None,
        })?;
        let from = from.ok_or_else(|| {
            PyValueError::new_err(format!("invalid whence ({whence}, should be 0, 1 or 2)"))
        })?;
        if whence == 0 && offset < 0 {
            return Err(PyValueError::new_err(format!("negative seek value {offset}")));
        }
        // Like `io.BytesIO`: an offset before the beginning becomes 0.
        let to = from.saturating_add_signed(offset);
        match self.with(py, |body| body.seek(to, &self.active))? {
            true => Ok(to),
            false => Err(unsupported(py, "seek: a large body can't seek back after the response has begun")),
        }
    }

    fn readable(&self) -> PyResult<bool> {
        self.check_open().map(|()| true)
    }

    fn writable(&self) -> PyResult<bool> {
        self.check_open().map(|()| false)
    }

    fn isatty(&self) -> PyResult<bool> {
        self.check_open().map(|()| false)
    }

    fn flush(&self) -> PyResult<()> {
        self.check_open()
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Err(unsupported(py, "fileno"))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    fn close(&self) {
        let _closed_or_over = self.state.compare_exchange(OPEN, CLOSED, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.check_open()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }
}

/// Converts a size of Python's file methods: None and negative numbers mean no limit.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX)
}

/// Creates an `io.UnsupportedOperation`.
fn unsupported(py: Python<'_>, what: &str) -> PyErr {
    let class = py.import("io").and_then(|io| io.getattr("UnsupportedOperation"));
    class.and_then(|it| it.call1((what,))).map_or_else(|error| error, PyErr::from_value)
}
