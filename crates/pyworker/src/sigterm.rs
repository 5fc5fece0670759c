//! SIGTERM drains this worker, and no other process and at no other time.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

/// What `signal` wraps in enums, which would take a quarter of a megabyte in each worker.
pub(crate) const MODULE: &str = "_signal";

/// A process that the app forks ends at SIGTERM. With the handler that it inherits it would pass the signal on
/// to this process, so none may reach it before that is undone.
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

/// SIGTERM ends the process again, unless the app handles it.
pub(crate) fn stop_handling(py: Python<'_>) -> PyResult<()> {
    let signal = py.import(MODULE)?;
    let (number, default) = (signal.getattr("SIGTERM")?, signal.getattr("SIG_DFL")?);
    if signal.call_method1("getsignal", (&number,))?.eq(&default)? {
        signal.call_method1("signal", (number, default))?;
    }
    Ok(())
}
