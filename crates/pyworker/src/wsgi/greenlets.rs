//! Checks that Python's threads are real threads.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Libraries that replace threads with greenlets. Debuggers and tracers also patch functions of `threading`,
/// but still start real threads.
const GREENLETS: [&str; 2] = ["gevent", "eventlet"];

/// Refuses several threads if one of these libraries is active: its locks and imports hang once two threads
/// contend for them.
pub(crate) fn check(py: Python<'_>, threads: u32) -> PyResult<()> {
    if threads <= 1 {
        return Ok(());
    }
    let start = py.import("_thread")?.getattr("start_new_thread")?;
    let module = start.getattr("__module__").and_then(|it| it.extract::<String>()).unwrap_or_default();
    let library = module.split('.').next().unwrap_or_default();
    if !GREENLETS.contains(&library) {
        return Ok(());
    }
    let keep = match library {
        "gevent" => "gevent.monkey.patch_all(thread=False)",
        _ => "eventlet.monkey_patch(thread=False)",
    };
    Err(PyRuntimeError::new_err(format!(
        "`threads = {threads}` needs threads, and the app has replaced them by {library}'s greenlets, which all run on one: \
         write `threads = 1` and more `workers`, or leave threads as they are: `{keep}`"
    )))
}
