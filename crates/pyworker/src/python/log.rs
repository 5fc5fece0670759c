//! Turns what the app prints into log events.

mod pending;

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use daemon::logging::APP;
use parking_lot::Mutex;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tracing::Level;

use self::pending::Pending;

const LINES: &CStr = match CStr::from_bytes_with_nul(concat!(include_str!("log/lines.py"), "\0").as_bytes()) {
    Ok(source) => source,
    Err(_) => c"",
};

/// How many bytes at the start of a line are searched for the name of a level, which follows date and time.
const LEVEL_WITHIN: usize = 48;

/// Replaces `sys.stdout` and `sys.stderr`. Returns the latter, which is also `wsgi.errors`.
///
/// They are ordinary Python text files on top of a raw file that writes to the log, so they behave as usual.
/// What C code writes to the descriptors isn't affected.
pub(crate) fn replace_standard_files(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let sys = py.import("sys")?;
    for (name, descriptor) in [("stdout", 1), ("stderr", 2)] {
        let file = text_file(py, LogFile { name, descriptor })?;
        sys.setattr(name, &file)?;
        // Some libraries redirect the files and restore them from here.
        sys.setattr(format!("__{name}__"), file)?;
    }
    sys.getattr("stderr")
}

fn text_file(py: Python<'_>, raw: LogFile) -> PyResult<Bound<'_, PyAny>> {
    let buffer = py.import("io")?.call_method1("BufferedWriter", (Bound::new(py, raw)?, pending::LIMIT))?;
    let options = PyDict::new(py);
    options.set_item("encoding", "utf-8")?;
    options.set_item("errors", "backslashreplace")?;
    options.set_item("line_buffering", true)?;
    let names = PyDict::new(py);
    names.set_item("__name__", "_imperium")?;
    py.run(LINES, Some(&names), None)?;
    let lines = names.get_item("Lines")?.ok_or_else(|| PyKeyError::new_err("Lines"))?;
    lines.call((buffer,), Some(&options))
}

/// Printed text that isn't an event yet, by file and thread.
static PENDING: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
/// Whether there may be any, which is checked after each request.
static IS_ANY: AtomicBool = AtomicBool::new(false);

struct Kept {
    descriptor: i32,
    thread: ThreadId,
    pending: Pending,
}

/// The calling thread has finished something. What it has printed is complete.
pub(crate) fn settle() {
    if IS_ANY.load(Ordering::Relaxed) {
        let this = thread::current().id();
        emit(each(&mut PENDING.lock(), |kept| {
            (kept.thread == this).then(|| kept.pending.settle()).flatten()
        }));
    }
}

/// This process exits. Logs everything that was printed, complete or not.
pub(crate) fn settle_all() {
    // A process that was forked while another thread held the lock can't acquire it.
    if let Some(mut all) = PENDING.try_lock() {
        emit(each(&mut all, |kept| kept.pending.settle()));
    }
}

/// Logs what has waited long enough. Called periodically.
pub(crate) fn tick() {
    if IS_ANY.load(Ordering::Relaxed) {
        emit(each(&mut PENDING.lock(), |kept| kept.pending.tick()));
    }
}

/// Collects the events that `event` returns for all pending text.
fn each(all: &mut Vec<Kept>, event: impl FnMut(&mut Kept) -> Option<String>) -> Vec<String> {
    let events = all.iter_mut().filter_map(event).collect();
    all.retain(|it| !it.pending.is_empty());
    IS_ANY.store(!all.is_empty(), Ordering::Relaxed);
    events
}

fn push(descriptor: i32, bytes: &[u8]) -> Vec<String> {
    let thread = thread::current().id();
    let mut all = PENDING.lock();
    let at = all.iter().position(|it| it.thread == thread && it.descriptor == descriptor);
    let at = at.unwrap_or_else(|| {
        all.push(Kept { descriptor, thread, pending: Pending::default() });
        all.len() - 1
    });
    let events = all[at].pending.push(bytes);
    if all[at].pending.is_empty() {
        all.swap_remove(at);
    }
    IS_ANY.store(!all.is_empty(), Ordering::Relaxed);
    events
}

fn emit(events: Vec<String>) {
    for event in events {
        match level(&event) {
            Level::ERROR => tracing::error!(target: APP, "{event}"),
            Level::WARN => tracing::warn!(target: APP, "{event}"),
            _ => tracing::info!(target: APP, "{event}"),
        }
    }
}

/// The level of printed text: that of a traceback, or the one that the app's own logging writes near the
/// start of a line. At least `INFO`, so that output of the app is shown by default.
fn level(event: &str) -> Level {
    if event.lines().any(|line| line == "Traceback (most recent call last):") {
        return Level::ERROR;
    }
    let first = event.lines().next().unwrap_or_default();
    let start = &first[..first.floor_char_boundary(LEVEL_WITHIN)];
    let words = start.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find_map(named_level).unwrap_or(Level::INFO)
}

fn named_level(word: &str) -> Option<Level> {
    match word {
        "CRITICAL" | "FATAL" | "ERROR" => Some(Level::ERROR),
        "WARNING" | "WARN" => Some(Level::WARN),
        "INFO" | "DEBUG" => Some(Level::INFO),
        _ => None,
    }
}

/// The raw file below Python's text file.
#[pyclass(name = "LogFile", module = "imperium", frozen)]
struct LogFile {
    name: &'static str,
    descriptor: i32,
}

#[pymethods]
impl LogFile {
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        // A memoryview. The stable ABI of Python 3.10 has no other way to read it.
        let bytes = py.get_type::<PyBytes>().call1((data,))?.cast_into::<PyBytes>()?;
        emit(push(self.descriptor, bytes.as_bytes()));
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

    /// The lines that the calling thread has printed are complete. An unfinished line isn't.
    fn settle(&self) {
        let this = thread::current().id();
        emit(each(&mut PENDING.lock(), |kept| {
            (kept.thread == this).then(|| kept.pending.settle_lines()).flatten()
        }));
    }

    fn close(&self) {
        settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_text_has_its_own_level() {
        for (event, expected) in [
            ("Traceback (most recent call last):\n  File \"a.py\"", Level::ERROR),
            ("ERROR:root:no\nTraceback (most recent call last):", Level::ERROR),
            ("WARNING:root:low on disk", Level::WARN),
            ("2026-11-27 20:01:02,123 [CRITICAL] shop: out of money", Level::ERROR),
            ("2026-11-27 20:01:02,123 INFO shop: no ERROR", Level::INFO),
            ("DEBUG:root:seen unless less is asked for", Level::INFO),
            ("an ERRORS page", Level::INFO),
            ("hello", Level::INFO),
            ("", Level::INFO),
        ] {
            assert_eq!(level(event), expected, "{event}");
        }
    }
}
