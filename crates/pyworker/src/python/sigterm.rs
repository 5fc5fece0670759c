//! Makes sure that SIGTERM drains this worker, but not the processes that it forks.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

/// The C module behind `signal`, whose enums would cost a quarter of a megabyte per worker.
pub(crate) const MODULE: &str = "_signal";

/// Restores the default action of SIGTERM in processes that the app forks. The inherited handler would
/// forward the signal to this process, so SIGTERM is blocked until it has been reset.
pub(crate) fn leave_to_children(py: Python<'_>) -> PyResult<()> {
    let options = PyDict::new(py);
    options.set_item("before", hook(py, |py| mask(py, "SIG_BLOCK"))?)?;
    options.set_item("after_in_parent", hook(py, |py| mask(py, "SIG_UNBLOCK"))?)?;
    let in_child = |py: Python<'_>| stop_handling(py).and_then(|()| mask(py, "SIG_UNBLOCK"));
    options.set_item("after_in_child", hook(py, in_child)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&options))?;
    Ok(())
}

fn hook<'py>(
    py: Python<'py>,
    run: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<Bound<'py, PyCFunction>> {
    PyCFunction::new_closure(py, None, None, move |arguments, _| run(arguments.py()))
}

fn mask(py: Python<'_>, how: &str) -> PyResult<()> {
    let signal = py.import(MODULE)?;
    signal.call_method1("pthread_sigmask", (signal.getattr(how)?, (signal.getattr("SIGTERM")?,)))?;
    Ok(())
}

/// Restores the default action of SIGTERM, unless the app handles it.
pub(crate) fn stop_handling(py: Python<'_>) -> PyResult<()> {
    let signal = py.import(MODULE)?;
    let (number, default) = (signal.getattr("SIGTERM")?, signal.getattr("SIG_DFL")?);
    if signal.call_method1("getsignal", (&number,))?.eq(&default)? {
        signal.call_method1("signal", (number, default))?;
    }
    Ok(())
}
