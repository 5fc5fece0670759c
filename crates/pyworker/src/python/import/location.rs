//! Finds the app that a spec names: `module:callable`, `file.py:callable`, either of them with a factory's
//! arguments, or a Paste file.

use std::path::Path;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{django, factory, file, paste};

/// Names of the app that are tried if the spec doesn't contain one.
const USUAL_NAMES: [&str; 2] = ["application", "app"];
/// Common names of functions that return an app.
const USUAL_FACTORIES: [&str; 3] = ["create_app", "make_app", "get_app"];

/// Where the app is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Location<'a> {
    module: Module<'a>,
    callable: Callable<'a>,
}

/// The app within a module. Names may be dotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callable<'a> {
    /// One of the usual names.
    Usual,
    Name(&'a str),
    /// The function that returns the app, and the text of the call.
    Factory {
        name: &'a str,
        call: &'a str,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Module<'a> {
    Name(&'a str),
    /// A path relative to the app's directory.
    File(&'a Path),
    /// The path of a Paste configuration.
    Paste(&'a Path),
}

impl<'a> Location<'a> {
    /// Parses the app of a spec.
    pub(crate) fn parse(app: &'a str) -> Self {
        // A call may contain any character in its string literals.
        let call = app.strip_suffix(')').and_then(|_| app.find('('));
        let (module, callable) = match app[..call.unwrap_or(app.len())].rfind(':') {
            Some(at) => (&app[..at], Callable::parse(&app[at + 1..])),
            None => (app, Callable::Usual),
        };
        let path = Path::new(module);
        let module = match path.extension().and_then(|it| it.to_str()) {
            Some("ini") => Module::Paste(path),
            Some("py") => Module::File(path),
            _ if module.contains('/') => Module::File(path),
            _ => Module::Name(module),
        };
        Self { module, callable }
    }

    /// Imports the module and returns the app in it.
    pub(crate) fn load<'py>(&self, py: Python<'py>, directory: &Path) -> PyResult<Bound<'py, PyAny>> {
        let app = self.find(py, directory)?;
        django::with_static_files(app)
    }

    fn find<'py>(&self, py: Python<'py>, directory: &Path) -> PyResult<Bound<'py, PyAny>> {
        let module = match self.module {
            Module::Name(name) => py.import(name)?.into_any(),
            Module::File(file) => file::import(py, &directory.join(file))?,
            Module::Paste(file) => return paste::load(py, &directory.join(file), self.callable.section()),
        };
        let app = match self.callable {
            Callable::Name(name) => attribute(&module, name)?,
            Callable::Factory { name, call } => return factory::call(&attribute(&module, name)?, name, call),
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
        match text.strip_suffix(')').and_then(|it| it.split_once('(')) {
            _ if text.is_empty() => Self::Usual,
            Some((name, _)) => Self::Factory { name, call: text },
            None => Self::Name(text),
        }
    }

    /// The section of a Paste file. None stands for `main`.
    fn section(self) -> Option<&'a str> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }
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

/// Lists what looks like an app in the module, in case its name was misspelt.
fn candidates(module: &Bound<'_, PyAny>) -> String {
    let names = module.getattr("__dict__").and_then(|it| Ok(app_like(&it.cast_into::<PyDict>()?)));
    match names {
        Ok(names) if !names.is_empty() => format!(": these look like apps: {}", names.join(", ")),
        _ => match USUAL_FACTORIES.into_iter().find(|name| module.hasattr(name).unwrap_or(false)) {
            Some(factory) => format!(": write `{factory}()` if that returns the app"),
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

/// Whether the value is a function of two or three arguments, or a callable object that is neither a class nor a plain
/// function.
fn looks_like_app(value: &Bound<'_, PyAny>) -> bool {
    let code = value.getattr_opt("__code__").ok().flatten();
    match code.and_then(|it| it.getattr("co_argcount").ok()?.extract::<u32>().ok()) {
        Some(arguments) => arguments == 2 || arguments == 3,
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
        let factory = |name, call| Callable::Factory { name, call };
        for (app, module, callable) in [
            ("blog.wsgi:application", Module::Name("blog.wsgi"), Callable::Name("application")),
            ("blog:site.app", Module::Name("blog"), Callable::Name("site.app")),
            ("blog:create_app()", Module::Name("blog"), factory("create_app", "create_app()")),
            ("blog:make('a:b(c)')", Module::Name("blog"), factory("make", "make('a:b(c)')")),
            ("app.py:make(1)", file("app.py"), factory("make", "make(1)")),
            ("./site.wsgi:app", file("./site.wsgi"), Callable::Name("app")),
            ("site.wsgi:app", Module::Name("site.wsgi"), Callable::Name("app")),
            ("production.ini", Module::Paste(Path::new("production.ini")), Callable::Usual),
            ("etc/a.ini:admin", Module::Paste(Path::new("etc/a.ini")), Callable::Name("admin")),
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
