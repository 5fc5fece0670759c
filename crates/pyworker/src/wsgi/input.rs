//! `wsgi.input`: the body of a request, as one of Python's own binary files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};
use tokio::sync::Mutex;

use super::request_body::{RequestBody, Stop};
use crate::body::ReadError;
use crate::driver::Driver;
use crate::exchange::Exchange;
use crate::interrupt;

/// The body of one request. What is small is at hand; the rest is fetched as it is read.
#[pyclass(name = "Input", module = "imperium", frozen)]
pub(crate) struct Input {
    /// A thread that reads has it locked, and waits without the GIL.
    body: Mutex<RequestBody>,
    state: AtomicU8,
    exchange: Arc<Exchange>,
    driver: Arc<Driver>,
}

const OPEN: u8 = 0;
/// By the app.
const CLOSED: u8 = 1;
/// The request is over.
const OVER: u8 = 2;

impl Input {
    /// The body of the request of `exchange`.
    pub(crate) fn new(exchange: &Arc<Exchange>, driver: &Arc<Driver>) -> Self {
        let body = Mutex::new(RequestBody::of(&exchange.request));
        let (exchange, driver) = (Arc::clone(exchange), Arc::clone(driver));
        Self { body, state: AtomicU8::new(OPEN), exchange, driver }
    }

    /// The request is over: whoever kept the file reads no more from it.
    pub(crate) fn end(&self) {
        self.state.store(OVER, Ordering::Relaxed);
        // Where another thread reads, it is told that the exchange has ended.
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

    /// Up to `limit` bytes, and no more than up to where `stop` says.
    fn take<'py>(&self, py: Python<'py>, limit: usize, stop: Stop) -> PyResult<Bound<'py, PyBytes>> {
        self.check_open()?;
        let at_hand = self.body.try_lock().ok().and_then(|mut body| body.take_at_hand(limit, stop));
        let taken = match at_hand {
            Some(taken) => Ok(taken),
            None => {
                self.driver.wait(py, async { self.body.lock().await.take(limit, stop, &self.exchange).await })
            }
        };
        let taken = taken.map_err(|error| self.error(&error))?;
        Ok(PyBytes::new(py, &taken))
    }

    /// Looks at the body, or changes it. `act` runs no Python.
    fn with<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut RequestBody) -> T + Send) -> PyResult<T> {
        self.check_open()?;
        Ok(match self.body.try_lock() {
            Ok(mut body) => act(&mut body),
            Err(_) => self.driver.wait(py, async { act(&mut *self.body.lock().await) }),
        })
    }

    fn error(&self, error: &ReadError) -> PyErr {
        interrupt::due(&self.exchange).unwrap_or_else(|| PyOSError::new_err(error.to_string()))
    }

    fn fill(&self, buffer: &Bound<'_, PyAny>, stop: Stop) -> PyResult<usize> {
        let py = buffer.py();
        // The stable ABI of Python 3.10 has no other way to write to it.
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
    /// Exactly `size` bytes, less at the end of the body; all that is left without a size.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::Never)
    }

    /// Up to `size` bytes, as many as can be had at once; none at the end of the body.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::Piece)
    }

    /// All that is left.
    fn readall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, usize::MAX, Stop::Never)
    }

    /// Fills `buffer`, which is any that can be written to, and tells how many bytes of it: fewer at the end of the body.
    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.fill(buffer, Stop::Never)
    }

    /// Fills `buffer` as far as can be done at once, and tells how many bytes of it: none at the end of the body.
    fn readinto1(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.fill(buffer, Stop::Piece)
    }

    /// A line with its end, no longer than `size`; empty at the end of the body.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), Stop::LineEnd)
    }

    /// All lines that are left, or as many as have `hint` bytes together.
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

    /// Whether `seek` can go back: always, if the body is small, and else until the response begins.
    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |body| body.can_go_back(&self.exchange))
    }

    /// Where the next byte is read from.
    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |body| body.position())
    }

    /// Goes to `offset` from the beginning, or from where `whence` says, as Python's files do. Tells where that is.
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
        // As `io.BytesIO`: nothing is before the beginning.
        let to = from.saturating_add_signed(offset);
        match self.with(py, |body| body.seek(to, &self.exchange))? {
            true => Ok(to),
            false => Err(unsupported(py, "seek: a large body cannot go back once the response has begun")),
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

/// As in Python's files: none and negative mean no limit.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX)
}

/// `io.UnsupportedOperation`.
fn unsupported(py: Python<'_>, what: &str) -> PyErr {
    let class = py.import("io").and_then(|io| io.getattr("UnsupportedOperation"));
    class.and_then(|it| it.call1((what,))).map_or_else(|error| error, PyErr::from_value)
}
