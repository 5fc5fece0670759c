//! Imports a file by its path.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

/// Imports a file under its own name, as other modules would import it when it is in `sys.path`.
///
/// If that name would import something else, such as a package `app` next to `app.py`, the file gets another
/// name, and the package keeps its own.
pub(super) fn import<'py>(py: Python<'py>, file: &Path) -> PyResult<Bound<'py, PyAny>> {
    let path: PathBuf = file.components().collect();
    // A string, since the loader doesn't accept path objects.
    let shown = path.as_os_str();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_python = path.extension().is_some_and(|it| it == "py");
    let name = match is_python && !names_another(py, &stem, &path)? {
        true => stem.into_owned(),
        false => format!("wsgi_file_{stem}"),
    };
    let loader = py.import("importlib.machinery")?.call_method1("SourceFileLoader", (&name, shown))?;
    let spec = py.import("importlib.util")?.call_method1("spec_from_loader", (&name, &loader))?;
    let module = py.import("importlib.util")?.call_method1("module_from_spec", (&spec,))?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(&name, &module)?;
    if is_python {
        loader.call_method1("exec_module", (&module,))?;
    } else {
        // `site.wsgi` and `site.py` would share one bytecode file.
        let source = loader.call_method1("get_data", (shown,))?;
        let code = loader.call_method1("source_to_code", (source, shown))?;
        py.import("builtins")?.call_method1("exec", (code, module.getattr("__dict__")?))?;
    }
    // A module may replace itself in `sys.modules` while it is imported.
    modules.get_item(&name)
}

/// Whether importing that name finds something other than the file.
fn names_another(py: Python<'_>, name: &str, file: &Path) -> PyResult<bool> {
    let found = py.import("importlib.util")?.call_method1("find_spec", (name,));
    // ValueError: a module of that name is imported, but has no `__spec__`.
    let Ok(spec) = found else { return Ok(true) };
    if spec.is_none() {
        return Ok(false);
    }
    let origin = spec.getattr("origin")?.extract::<Option<PathBuf>>()?;
    let real = |path: &Path| path.canonicalize().ok();
    Ok(origin.is_none_or(|origin| real(&origin).is_none() || real(&origin) != real(file)))
}
