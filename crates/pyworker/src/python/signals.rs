//! Runs Python's signal handlers also while the main thread waits for a request.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::driver::Driver;
use super::{sigterm, traceback};

/// Notified when Python has caught a signal, whose handler has to run on the main thread.
pub(crate) struct Signals {
    caught: Arc<Notify>,
    /// Python's C-level handler writes to it (`signal.set_wakeup_fd`).
    _wakeup: StdUnixStream,
}

/// The outcome of the app's signal handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Handled {
    /// Continue.
    GoOn,
    /// A handler raised `SystemExit` or `KeyboardInterrupt`.
    End,
}

impl Signals {
    /// Installs the wakeup descriptor. Call this on the main thread.
    pub(crate) fn listen(py: Python<'_>, driver: &Driver) -> PyResult<Self> {
        let caught = Arc::new(Notify::new());
        let (wakeup, woken) = StdUnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let options = PyDict::new(py);
        options.set_item("warn_on_full_buffer", false)?;
        py.import(sigterm::MODULE)?.call_method("set_wakeup_fd", (wakeup.as_raw_fd(),), Some(&options))?;
        driver.spawn(forward(woken, Arc::clone(&caught)));
        Ok(Self { caught, _wakeup: wakeup })
    }

    /// Waits for the next signal that Python catches.
    pub(crate) async fn caught(&self) {
        self.caught.notified().await;
    }
}

/// Runs the handlers of pending signals. Exceptions are logged, since nobody else would report them.
pub(crate) fn handle(py: Python<'_>) -> Handled {
    py.check_signals().map_or_else(|error| handled(py, &error), |()| Handled::GoOn)
}

/// The outcome of a handler that raised `error`.
pub(crate) fn handled(py: Python<'_>, error: &PyErr) -> Handled {
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return Handled::End;
    }
    tracing::error!("a signal handler of the app raised an exception\n{}", traceback::of(py, error));
    Handled::GoOn
}

async fn forward(woken: StdUnixStream, caught: Arc<Notify>) {
    let Ok(mut woken) = UnixStream::from_std(woken) else { return };
    let mut numbers = [0; 64];
    while woken.read(&mut numbers).await.is_ok_and(|read| read > 0) {
        caught.notify_one();
    }
}
