//! Python's own signal handlers run while the main thread waits for a request, too.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::driver::Driver;
use crate::{sigterm, traceback};

/// Tells that Python has caught a signal, whose handler only the main thread may run.
pub(crate) struct Signals {
    caught: Arc<Notify>,
    /// Python's C handler writes to it (`signal.set_wakeup_fd`).
    _wakeup: StdUnixStream,
}

/// What the app's handler made of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Handled {
    /// Go on.
    GoOn,
    /// It raised `SystemExit` or `KeyboardInterrupt`.
    End,
}

impl Signals {
    /// Has Python tell of each signal that it catches. For the main thread.
    pub(crate) fn listen(py: Python<'_>, driver: &Driver) -> PyResult<Self> {
        let caught = Arc::new(Notify::new());
        let (wakeup, woken) = StdUnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let options = PyDict::new(py);
        options.set_item("warn_on_full_buffer", false)?;
        py.import(sigterm::MODULE)?.call_method("set_wakeup_fd", (wakeup.as_raw_fd(),), Some(&options))?;
        driver.spawn(tell(woken, Arc::clone(&caught)));
        Ok(Self { caught, _wakeup: wakeup })
    }

    /// Waits for the next signal that Python catches.
    pub(crate) async fn caught(&self) {
        self.caught.notified().await;
    }
}

/// Runs the handlers of what was caught. An exception of theirs, of which nobody else would learn, is logged.
pub(crate) fn handle(py: Python<'_>) -> Handled {
    let Err(error) = py.check_signals() else { return Handled::GoOn };
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return Handled::End;
    }
    tracing::error!("a signal handler of the app raised an exception\n{}", traceback::of(py, &error));
    Handled::GoOn
}

async fn tell(woken: StdUnixStream, caught: Arc<Notify>) {
    let Ok(mut woken) = UnixStream::from_std(woken) else { return };
    let mut numbers = [0; 64];
    while woken.read(&mut numbers).await.is_ok_and(|read| read > 0) {
        caught.notify_one();
    }
}
