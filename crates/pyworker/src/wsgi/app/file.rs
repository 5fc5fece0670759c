//! Imports a file by its path.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

/// Imports a file under its own name, as `python FILE` would find it when another module imports it.
///
/// Where `import` finds something else under that name, such as a package `app` beside `app.py`, the file has another
/// name, and the package keeps its own.
pub(super) fn import<'py>(py: Python<'py>, file: &Path) -> PyResult<Bound<'py, PyAny>> {
    let path: PathBuf = file.components().collect();
    // A text, as the loader takes no path objects.
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
        // `site.wsgi` and `site.py` would have the same file of bytecode.
        let source = loader.call_method1("get_data", (shown,))?;
        let code = loader.call_method1("source_to_code", (source, shown))?;
        py.import("builtins")?.call_method1("exec", (code, module.getattr("__dict__")?))?;
    }
    // A module may put something else in its place while it is imported.
    modules.get_item(&name)
}

/// Whether `import` of that name finds anything but the file.
fn names_another(py: Python<'_>, name: &str, file: &Path) -> PyResult<bool> {
    let found = py.import("importlib.util")?.call_method1("find_spec", (name,));
    // A ValueError: it is imported, and does not say from where.
    let Ok(spec) = found else { return Ok(true) };
    if spec.is_none() {
        return Ok(false);
    }
    let origin = spec.getattr("origin")?.extract::<Option<PathBuf>>()?;
    let real = |path: &Path| path.canonicalize().ok();
    Ok(origin.is_none_or(|origin| real(&origin).is_none() || real(&origin) != real(file)))
}
