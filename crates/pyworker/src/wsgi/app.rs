//! Finds the app that a spec names: `module:callable`, `file.py:callable`, or either with a factory's `()`.

use std::path::{Path, PathBuf};

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What the app is called where the spec does not say.
const USUAL_NAMES: [&str; 2] = ["application", "app"];
/// What functions are called that make one.
const USUAL_FACTORIES: [&str; 3] = ["create_app", "make_app", "get_app"];

/// Where an app is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Location<'a> {
    module: Module<'a>,
    callable: Callable<'a>,
}

/// What in a module answers; names are dotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callable<'a> {
    /// One of the usual names.
    Usual,
    Name(&'a str),
    /// What returns it when it is called.
    Factory(&'a str),
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
            Some((module, callable)) => (module, Callable::parse(callable)),
            None => (app, Callable::Usual),
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
            Callable::Name(name) => attribute(&module, name)?,
            Callable::Factory(name) => return made_by(&attribute(&module, name)?, name),
            Callable::Usual => usual(&module)?,
        };
        if app.is_callable() {
            return Ok(app);
        }
        let name = if let Callable::Name(name) = self.callable { name } else { "the app" };
        Err(PyTypeError::new_err(format!(
            "{name} of {} is not callable{}",
            name_of(&module),
            candidates(&module)
        )))
    }
}

impl<'a> Callable<'a> {
    fn parse(text: &'a str) -> Self {
        match (text, text.strip_suffix("()")) {
            ("", _) => Self::Usual,
            (_, Some(name)) => Self::Factory(name),
            (name, None) => Self::Name(name),
        }
    }
}

fn made_by<'py>(factory: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let app = factory.call0()?;
    if app.is_callable() {
        return Ok(app);
    }
    let kind = app.get_type().name()?;
    Err(PyTypeError::new_err(format!("{name}() returned {kind}, which cannot be called as an app")))
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
        _ => match USUAL_FACTORIES.into_iter().find(|name| module.hasattr(name).unwrap_or(false)) {
            Some(factory) => format!(": write `{factory}()` if that makes the app"),
            None => ": nothing in it looks like an app".to_owned(),
        },
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
            ("blog.wsgi:application", Module::Name("blog.wsgi"), Callable::Name("application")),
            ("blog:site.app", Module::Name("blog"), Callable::Name("site.app")),
            ("blog:create_app()", Module::Name("blog"), Callable::Factory("create_app")),
            ("blog", Module::Name("blog"), Callable::Usual),
            ("blog:", Module::Name("blog"), Callable::Usual),
            ("app.py:app", file("app.py"), Callable::Name("app")),
            ("app.py", file("app.py"), Callable::Usual),
            ("sub/wsgi:app", file("sub/wsgi"), Callable::Name("app")),
        ] {
            assert_eq!(Location::parse(app), Location { module, callable }, "{app}");
        }
    }
}
