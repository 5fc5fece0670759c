//! The event loop while the app is imported: if the app's file says that the app is of ASGI, its loop is the current one
//! (`asyncio.get_event_loop`). Otherwise, nothing of asyncio is loaded, since the app may be of WSGI.

use api::worker::{Interface, Spec};
use parking_lot::Mutex;
use pyo3::prelude::*;

use super::support::Support;

/// Set in the process that imports the app, if it also runs it.
static PREPARED: Mutex<Option<Prepared>> = Mutex::new(None);

/// The loop that was created before the import, with its name, if it was.
pub(super) struct Prepared(pub(super) Option<Py<PyAny>>);

/// Prepares the import of the app in the process that will run it.
///
/// # Errors
/// If the loop that the app's file names can't be created.
pub(crate) fn before_import(py: Python<'_>, spec: &Spec) -> PyResult<()> {
    let is_loop_given = !matches!(spec.r#loop.as_str(), "" | "auto");
    let is_asgi = spec.interface() == Interface::Asgi || spec.concurrency_given || is_loop_given;
    let created = match is_asgi {
        true => Some(create(py, spec)?.unbind()),
        false => None,
    };
    *PREPARED.lock() = Some(Prepared(created));
    Ok(())
}

fn create<'py>(py: Python<'py>, spec: &Spec) -> PyResult<Bound<'py, PyAny>> {
    let created = Support::load(py)?.get(py, "new_loop")?.call1((&spec.r#loop,))?;
    py.import("asyncio")?.call_method1("set_event_loop", (created.get_item(0)?,))?;
    Ok(created)
}

/// What was prepared. None if the app was imported in another process, whose loop can't be used here.
pub(super) fn prepared() -> Option<Prepared> {
    PREPARED.lock().take()
}
