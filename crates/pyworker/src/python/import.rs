//! Imports the app.

mod django;
mod explain;
mod factory;
mod file;
mod interface;
mod location;
mod paste;

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use api::worker::Failed;
use api::worker::Spec;
use api::worker::failed::Reason;
use pyo3::exceptions::{PyException, PySyntaxError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use self::interface::UnsupportedApp;
pub(crate) use self::interface::interface;
use self::location::Location;
use super::traceback;

pyo3::create_exception!(
    imperium,
    StartupFailed,
    PyException,
    "An ASGI app reported that its startup failed. The message is the app's, which is often a traceback."
);

/// Imports the app that `spec` names. `prepare` is called before, when modules of the app can be imported. Everything that exists afterwards is permanent: the garbage collector
/// doesn't have to scan it again, which in a fork would also cause pages to be copied.
pub(crate) fn import<'py>(
    py: Python<'py>,
    spec: &Spec,
    prepare: impl FnOnce() -> PyResult<()>,
) -> PyResult<Bound<'py, PyAny>> {
    let directory = Path::new(&spec.directory);
    let sys = py.import("sys")?;
    sys.setattr("argv", PyList::new(py, ["imperium"])?)?;
    put_first(&sys.getattr("path")?.cast_into()?, directory)?;
    prepare()?;
    let app = Location::parse(&spec.app).load(py, directory)?;
    // Garbage isn't collected before: the freed memory would cause more copying in forked processes (see the
    // documentation of `gc`).
    py.import("gc")?.call_method0("freeze")?;
    Ok(app)
}

/// Converts an exception of the app to the message for emperord.
pub(crate) fn failed(py: Python<'_>, error: &PyErr, spec: &Spec) -> Failed {
    let reason = match is_of_source(py, error, Path::new(&spec.directory)) {
        Ok(true) => Reason::Source,
        Ok(false) | Err(_) => Reason::Import,
    };
    // Raised by this crate, not by the app: the message says it all.
    if error.is_instance_of::<UnsupportedApp>(py) {
        let message = error.value(py).to_string();
        return Failed { reason: reason.into(), message, traceback: String::new() };
    }
    if error.is_instance_of::<StartupFailed>(py) {
        let text = error.value(py).to_string();
        let text = text.trim_end();
        let (message, traceback) = match text {
            "" => ("the app reports that its startup (lifespan) failed, without a reason", ""),
            _ if traceback::is_formatted(text) => (traceback::last_line_in(text), text),
            _ => (text, ""),
        };
        let message = message.replace(['\n', '\r'], " ");
        return Failed { reason: reason.into(), message, traceback: traceback.to_owned() };
    }
    Failed {
        reason: reason.into(),
        message: explain::of(py, error, spec),
        traceback: traceback::of(py, error),
    }
}

/// Whether only an edit of the app's own files can help: a file can't be compiled, or the app has an
/// unsupported protocol. A failure in a package may disappear when the package is reinstalled.
fn is_of_source(py: Python<'_>, error: &PyErr, directory: &Path) -> PyResult<bool> {
    if error.is_instance_of::<UnsupportedApp>(py) {
        return Ok(true);
    }
    if !error.is_instance_of::<PySyntaxError>(py) {
        return Ok(false);
    }
    let file: Option<PathBuf> = error.value(py).getattr("filename")?.extract()?;
    let is_package =
        |part: Component<'_>| ["site-packages", "dist-packages"].map(OsStr::new).contains(&part.as_os_str());
    Ok(file.is_some_and(|it| it.starts_with(directory) && !it.components().any(is_package)))
}

/// Puts the app's directory first in `sys.path`, in place of the empty entry that Python adds when it is
/// started with `-c`.
fn put_first(path: &Bound<'_, PyList>, directory: &Path) -> PyResult<()> {
    let py = path.py();
    let directory = directory.as_os_str().into_pyobject(py)?;
    match path.get_item(0) {
        Ok(first) if first.is_truthy()? => path.insert(0, directory),
        Ok(_) => path.set_item(0, directory),
        Err(_) => path.append(directory),
    }
}
