//! `wsgi.input`: the body of a request, as a file to read from.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};

use crate::body::{ReadError, Upload};
use crate::driver::Driver;
use crate::exchange::Exchange;
use crate::interrupt;

/// The body of one request. What is small is at hand; the rest is fetched as it is read.
#[pyclass(name = "Input", module = "imperium")]
pub(crate) struct Input {
    at_hand: Bytes,
    source: Source,
}

enum Source {
    /// All that there is, is at hand.
    Inline,
    Streamed {
        upload: Upload,
        exchange: Arc<Exchange>,
        driver: Arc<Driver>,
    },
    /// The request is over.
    Closed,
}

impl Input {
    /// A body that came with the request.
    pub(crate) fn inline(body: Bytes) -> Self {
        Self { at_hand: body, source: Source::Inline }
    }

    /// A body of `length` bytes that comes over a call of its own.
    pub(crate) fn streamed(length: u64, exchange: Arc<Exchange>, driver: Arc<Driver>) -> Self {
        Self {
            at_hand: Bytes::new(),
            source: Source::Streamed { upload: Upload::new(length), exchange, driver },
        }
    }

    /// The request is over: whoever kept the file reads no more from it.
    pub(crate) fn close(&mut self) {
        self.at_hand = Bytes::new();
        self.source = Source::Closed;
    }

    /// More of the body, which is never empty; `None` at its end.
    fn fetch(&mut self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        match &mut self.source {
            Source::Inline => Ok(None),
            Source::Streamed { upload, exchange, driver } => {
                driver.wait(py, upload.next(exchange)).map_err(|error: ReadError| {
                    match exchange.deadline.is_to_be_raised() {
                        true => interrupt::error(exchange),
                        false => PyOSError::new_err(error.to_string()),
                    }
                })
            }
            Source::Closed => Err(PyOSError::new_err("read the request body: the request is over")),
        }
    }

    /// Up to `limit` bytes, and no more than up to where `stop` says in what is at hand.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        limit: usize,
        stop: impl Fn(&[u8]) -> Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut taken = Vec::new();
        loop {
            let left = limit - taken.len();
            let found = stop(&self.at_hand[..self.at_hand.len().min(left)]);
            let piece = self.at_hand.split_to(found.unwrap_or(left).min(self.at_hand.len()));
            let is_whole = found.is_some() || piece.len() == left;
            if taken.is_empty() && (is_whole || matches!(self.source, Source::Inline)) {
                return Ok(PyBytes::new(py, &piece));
            }
            taken.extend_from_slice(&piece);
            if is_whole {
                return Ok(PyBytes::new(py, &taken));
            }
            match self.fetch(py)? {
                Some(more) => self.at_hand = more,
                None => return Ok(PyBytes::new(py, &taken)),
            }
        }
    }
}

#[pymethods]
impl Input {
    /// Exactly `size` bytes, less at the end of the body; all that is left without a size.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), |_| None)
    }

    /// Fills `buffer`, which is any that can be written to, and tells how many bytes of it: fewer at the end of the body.
    fn readinto(&mut self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = buffer.py();
        // The stable ABI of Python 3.10 has no other way to write to it.
        let view =
            py.import("builtins")?.call_method1("memoryview", (buffer,))?.call_method1("cast", ("B",))?;
        let read = self.take(py, view.len()?, |_| None)?;
        let length = read.as_bytes().len();
        view.set_item(PySlice::new(py, 0, length.cast_signed(), 1), read)?;
        Ok(length)
    }

    fn readable(&self) -> bool {
        true
    }

    /// A line with its end, no longer than `size`; empty at the end of the body.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), |at_hand| memchr::memchr(b'\n', at_hand).map(|at| at + 1))
    }

    /// All lines that are left, or as many as have `hint` bytes together.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
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

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.readline(py, None).map(|line| Some(line).filter(|it| !it.as_bytes().is_empty()))
    }
}

/// As in Python's files: none and negative mean no limit.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX)
}
