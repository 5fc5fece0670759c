//! Creates the app of a Paste configuration, as `pserve` does: it sets up logging first.

use std::path::Path;

use pyo3::exceptions::{PyImportError, PyModuleNotFoundError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Loads `[app:name]` of a file, or the app `main`.
pub(super) fn load<'py>(py: Python<'py>, file: &Path, name: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    // A `#` in the path would start the name of a section.
    let path = file.to_string_lossy();
    match py.import("pyramid.paster") {
        Ok(paster) => {
            paster.call_method1("setup_logging", (&path,))?;
            paster.call_method1("get_app", (&path, name))
        }
        Err(error) if error.is_instance_of::<PyModuleNotFoundError>(py) => by_paste(py, file, name),
        Err(error) => Err(error),
    }
}

fn by_paste<'py>(py: Python<'py>, file: &Path, name: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    let deploy = py.import("paste.deploy").map_err(|error| {
        let path = file.display();
        let error_to_raise =
            format!("load {path}: neither pyramid nor paste.deploy can be imported: install pastedeploy");
        let error_to_raise = PyImportError::new_err(error_to_raise);
        error_to_raise.set_cause(py, Some(error));
        error_to_raise
    })?;
    set_up_logging(py, file)?;
    let keywords = PyDict::new(py);
    keywords.set_item("name", name)?;
    deploy.call_method("loadapp", (format!("config:{}", file.display()),), Some(&keywords))
}

/// Sets up logging, if the file configures it.
fn set_up_logging(py: Python<'_>, file: &Path) -> PyResult<()> {
    let parser = py.import("configparser")?.call_method0("RawConfigParser")?;
    parser.call_method1("read", (file.to_string_lossy(),))?;
    if !parser.call_method1("has_section", ("loggers",))?.is_truthy()? {
        return Ok(());
    }
    let defaults = PyDict::new(py);
    let folder = file.parent().unwrap_or(Path::new("/"));
    defaults.set_item("__file__", file.to_string_lossy())?;
    defaults.set_item("here", folder.to_string_lossy())?;
    let keywords = PyDict::new(py);
    keywords.set_item("disable_existing_loggers", false)?;
    let config = py.import("logging.config")?;
    config.call_method("fileConfig", (file.to_string_lossy(), defaults), Some(&keywords))?;
    Ok(())
}
