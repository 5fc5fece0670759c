//! Detects whether an app is of WSGI or ASGI.

use api::worker::{Interface, Spec};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::factory;

/// `inspect.CO_COROUTINE`.
const IS_COROUTINE: u32 = 0x80;
/// `CO_VARARGS`.
const HAS_VARIABLE_ARGUMENTS: u32 = 0x04;
/// How many partial applications and decorators are looked through.
const MAX_LAYERS: usize = 16;
const PARAMETERS: [&str; 3] = ["scope", "receive", "send"];

pyo3::create_exception!(
    imperium,
    UnsupportedApp,
    PyTypeError,
    "The app has an interface that is not supported. Only another app in its place helps."
);

/// The interface of an app: what `spec` says, or what the app looks like.
///
/// # Errors
/// `UnsupportedApp`, with a suggestion, if the app is a function that can't be called as one; if `spec` says WSGI, or asks for threads, and the app can't be that; or if it
/// has keys of ASGI, and the app is WSGI.
pub(crate) fn interface(app: &Bound<'_, PyAny>, spec: &Spec) -> PyResult<Interface> {
    if let Some(function) = factory::not_called(app)? {
        let factory = match spec.app.split_once(':') {
            Some(_) => format!("{}()", spec.app),
            None => format!("{}:{function}()", spec.app),
        };
        return Err(UnsupportedApp::new_err(format!(
            "the function `{function}` doesn't take the arguments of a WSGI or ASGI app: if it returns the app, write `{factory}`"
        )));
    }
    let found = if is_asgi(app) { Interface::Asgi } else { Interface::Wsgi };
    match (spec.interface(), found) {
        (Interface::Wsgi, Interface::Asgi) => Err(UnsupportedApp::new_err(format!(
            "this is an ASGI app{}, and the app's file says `interface = \"wsgi\"`: remove that line",
            name_of(app)
        ))),
        (Interface::Unspecified, Interface::Asgi) if spec.threads > 1 => {
            Err(UnsupportedApp::new_err(format!(
                "this is an ASGI app{}, which runs on one thread, and the app's file says `threads = {}`: \
             write `concurrency = {}` instead",
                name_of(app),
                spec.threads,
                spec.threads
            )))
        }
        (Interface::Unspecified, Interface::Wsgi) if let Some(key) = of_asgi(spec) => {
            Err(UnsupportedApp::new_err(format!(
                "this looks like a WSGI app{}, and the app's file sets `{key}`, which is for ASGI apps: remove it, or write \
                 `interface = \"asgi\"`",
                name_of(app)
            )))
        }
        (Interface::Unspecified, found) => Ok(found),
        (asked, _) => Ok(asked),
    }
}

/// A key of the app's file that only ASGI apps have.
fn of_asgi(spec: &Spec) -> Option<&'static str> {
    let is_loop_given = !matches!(spec.r#loop.as_str(), "" | "auto");
    spec.concurrency_given.then_some("concurrency").or_else(|| is_loop_given.then_some("loop"))
}

/// The class of an app, for a message. Empty if it is a function.
fn name_of(app: &Bound<'_, PyAny>) -> String {
    // An app that is a class itself is named, rather than its metaclass.
    let class = app.cast::<PyType>().cloned().unwrap_or_else(|_| app.get_type());
    let module = class.module().map(|it| it.to_string()).unwrap_or_default();
    match app.getattr_opt("__code__") {
        Ok(Some(_)) => String::new(),
        _ => class.name().map(|it| format!(" ({module}.{it})")).unwrap_or_default(),
    }
}

/// Whether calling it returns a coroutine, or its parameters are those of ASGI. Apps of frameworks are
/// objects with such a `__call__`.
fn is_asgi(app: &Bound<'_, PyAny>) -> bool {
    let mut callable = app.clone();
    for _ in 0..MAX_LAYERS {
        let Some(code) = Code::of(&callable) else {
            // `functools.partial`, which has no code of its own.
            match callable.getattr_opt("func").ok().flatten() {
                Some(func) => callable = func,
                None => return false,
            }
            continue;
        };
        if !code.takes_anything() {
            return code.is_coroutine() || code.has_asgi_parameters();
        }
        // A decorator. What it wraps tells its parameters, but not whether it is awaited in there.
        match callable.getattr_opt("__wrapped__").ok().flatten() {
            Some(wrapped) if !code.is_coroutine() => match Code::of(&wrapped) {
                Some(code) if !code.takes_anything() => return code.has_asgi_parameters(),
                _ => callable = wrapped,
            },
            _ => return code.is_coroutine(),
        }
    }
    false
}

/// What is known of a call before it is made.
struct Code {
    flags: u32,
    parameters: Vec<String>,
}

impl Code {
    /// That of a function, of the `__call__` of a class or of an object.
    fn of(callable: &Bound<'_, PyAny>) -> Option<Self> {
        fn own<'py>(it: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
            it.getattr_opt("__code__").ok().flatten()
        }
        // The attribute of a class is what its instances call, which have taken the scope by then.
        let called = || match callable.is_instance_of::<PyType>() {
            true => callable.getattr_opt("__call__").ok().flatten(),
            false => callable.get_type().getattr_opt("__call__").ok().flatten(),
        };
        // An instance may be what is awaited, as Starlette's endpoints are.
        let made = || callable.cast::<PyType>().ok()?.getattr_opt("__init__").ok().flatten();
        let code = own(callable).or_else(|| own(&called()?)).or_else(|| own(&made()?))?;
        let flags = code.getattr("co_flags").and_then(|it| it.extract()).unwrap_or_default();
        let count = code.getattr("co_argcount").and_then(|it| it.extract::<usize>()).unwrap_or_default();
        let mut parameters: Vec<String> =
            code.getattr("co_varnames").and_then(|it| it.extract()).unwrap_or_default();
        parameters.truncate(count);
        Some(Self { flags, parameters })
    }

    fn is_coroutine(&self) -> bool {
        self.flags & IS_COROUTINE != 0
    }

    /// Whether it only has `*args`, as decorators do.
    fn takes_anything(&self) -> bool {
        self.parameters.is_empty() && self.flags & HAS_VARIABLE_ARGUMENTS != 0
    }

    /// Of a single callable, or of one of the two of ASGI 2, the first of which takes the scope alone.
    fn has_asgi_parameters(&self) -> bool {
        self.parameters.ends_with(&PARAMETERS.map(str::to_owned)) || self.parameters == ["scope"]
    }
}
