//! Finds the app that a spec names: `module:callable`, or `file.py:callable`.

use std::path::{Path, PathBuf};

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What the app is called where the spec does not say.
const USUAL_NAMES: [&str; 2] = ["application", "app"];

/// Where an app is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Location<'a> {
    module: Module<'a>,
    /// Dotted; where absent, one of the usual names.
    callable: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Module<'a> {
    Name(&'a str),
    /// Relative to the app's directory.
    File(&'a Path),
}

impl<'a> Location<'a> {
    /// Parses what the spec says.
    pub(crate) fn parse(app: &'a str) -> Self {
        let (module, callable) = match app.rsplit_once(':') {
            Some((module, callable)) => (module, Some(callable).filter(|it| !it.is_empty())),
            None => (app, None),
        };
        let is_file = module.contains('/') || Path::new(module).extension().is_some_and(|it| it == "py");
        let module = if is_file { Module::File(Path::new(module)) } else { Module::Name(module) };
        Self { module, callable }
    }

    /// Imports the module and finds the app in it.
    pub(crate) fn load<'py>(&self, py: Python<'py>, directory: &Path) -> PyResult<Bound<'py, PyAny>> {
        let module = match self.module {
            Module::Name(name) => py.import(name)?.into_any(),
            Module::File(file) => import_file(py, &directory.join(file))?,
        };
        let app = match self.callable {
            Some(callable) => attribute(&module, callable)?,
            None => usual(&module)?,
        };
        if app.is_callable() {
            return Ok(app);
        }
        let name = self.callable.unwrap_or("the app");
        Err(PyTypeError::new_err(format!(
            "{name} of {} is not callable{}",
            name_of(&module),
            candidates(&module)
        )))
    }
}

/// Imports a file under its own name, as `python FILE` would find it when another module imports it.
fn import_file<'py>(py: Python<'py>, file: &Path) -> PyResult<Bound<'py, PyAny>> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let util = py.import("importlib.util")?;
    let path: PathBuf = file.components().collect();
    let spec = util.call_method1("spec_from_file_location", (&name, path))?;
    let module = util.call_method1("module_from_spec", (&spec,))?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(&name, &module)?;
    spec.getattr("loader")?.call_method1("exec_module", (&module,))?;
    // A module may put something else in its place while it is imported.
    modules.get_item(&name)
}

fn attribute<'py>(module: &Bound<'py, PyAny>, dotted: &str) -> PyResult<Bound<'py, PyAny>> {
    let mut found = module.clone();
    for name in dotted.split('.') {
        found = found.getattr_opt(name)?.ok_or_else(|| missing(module, &format!("`{dotted}`")))?;
    }
    Ok(found)
}

fn usual<'py>(module: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    for name in USUAL_NAMES {
        if let Some(app) = module.getattr_opt(name)? {
            return Ok(app);
        }
    }
    Err(missing(module, "neither `application` nor `app`"))
}

fn missing(module: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let no = if what.starts_with('`') { "no " } else { "" };
    PyAttributeError::new_err(format!("{} has {no}{what}{}", name_of(module), candidates(module)))
}

fn name_of(module: &Bound<'_, PyAny>) -> String {
    module.getattr("__name__").map_or_else(|_| "the module".to_owned(), |it| format!("module {it}"))
}

/// What in the module looks like an app, for who misspelt its name.
fn candidates(module: &Bound<'_, PyAny>) -> String {
    let names = module.getattr("__dict__").and_then(|it| Ok(app_like(&it.cast_into::<PyDict>()?)));
    match names {
        Ok(names) if !names.is_empty() => format!(": these look like apps: {}", names.join(", ")),
        _ => ": nothing in it looks like an app".to_owned(),
    }
}

fn app_like(names: &Bound<'_, PyDict>) -> Vec<String> {
    let mut found: Vec<_> = names
        .iter()
        .filter(|(_, value)| looks_like_app(value))
        .map(|(name, _)| name.to_string())
        .filter(|name| !name.starts_with('_'))
        .collect();
    found.sort();
    found.truncate(8);
    found
}

/// A function of two arguments, or an object that can be called and is neither class nor plain function.
fn looks_like_app(value: &Bound<'_, PyAny>) -> bool {
    let code = value.getattr_opt("__code__").ok().flatten();
    match code.and_then(|it| it.getattr("co_argcount").ok()?.extract::<u32>().ok()) {
        Some(arguments) => arguments == 2,
        None => {
            value.is_callable()
                && value.getattr_opt("__self__").is_ok_and(|it| it.is_none())
                && !is_class(value)
        }
    }
}

fn is_class(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<pyo3::types::PyType>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let file = |path| Module::File(Path::new(path));
        for (app, module, callable) in [
            ("blog.wsgi:application", Module::Name("blog.wsgi"), Some("application")),
            ("blog:site.app", Module::Name("blog"), Some("site.app")),
            ("blog", Module::Name("blog"), None),
            ("blog:", Module::Name("blog"), None),
            ("app.py:app", file("app.py"), Some("app")),
            ("app.py", file("app.py"), None),
            ("sub/wsgi:app", file("sub/wsgi"), Some("app")),
        ] {
            assert_eq!(Location::parse(app), Location { module, callable }, "{app}");
        }
    }
}
