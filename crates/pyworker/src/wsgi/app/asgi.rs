//! Detects ASGI apps, so that they are refused at the start instead of failing each request.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// `inspect.CO_COROUTINE`.
const IS_COROUTINE: u32 = 0x80;
const PARAMETERS: [&str; 3] = ["scope", "receive", "send"];

pyo3::create_exception!(
    imperium,
    UnsupportedApp,
    PyTypeError,
    "The app has an interface that is not supported. Only another app in its place helps."
);

/// Refuses an ASGI app.
///
/// # Errors
/// `UnsupportedApp`, with a suggestion.
pub(super) fn refuse(app: &Bound<'_, PyAny>) -> PyResult<()> {
    if !is_asgi(app) {
        return Ok(());
    }
    let module = app.get_type().module().map(|it| it.to_string()).unwrap_or_default();
    let hint = if module.starts_with("django.") {
        "name the WSGI app of the same project, such as \"mysite.wsgi:application\""
    } else {
        "wrap it, as in `from a2wsgi import ASGIMiddleware; application = ASGIMiddleware(app)`, or serve it with uvicorn"
    };
    let what = match app.getattr_opt("__code__") {
        Ok(Some(_)) => String::new(),
        _ => app.get_type().name().map(|it| format!(" ({module}.{it})")).unwrap_or_default(),
    };
    Err(UnsupportedApp::new_err(format!("this is an ASGI app{what}, and ASGI isn't supported: {hint}")))
}

/// Whether calling it returns a coroutine, or its parameters are those of ASGI. Apps of frameworks are
/// objects with such a `__call__`.
fn is_asgi(app: &Bound<'_, PyAny>) -> bool {
    let of_function = app.getattr_opt("__code__").ok().flatten();
    let of_object = || app.get_type().getattr("__call__").ok()?.getattr_opt("__code__").ok()?;
    let Some(code) = of_function.or_else(of_object) else { return false };
    let flags = code.getattr("co_flags").and_then(|it| it.extract::<u32>()).unwrap_or_default();
    let arguments = code.getattr("co_argcount").and_then(|it| it.extract::<usize>()).unwrap_or_default();
    let names = code.getattr("co_varnames").and_then(|it| it.extract::<Vec<String>>()).unwrap_or_default();
    let names = &names[..arguments.min(names.len())];
    flags & IS_COROUTINE != 0 || names.ends_with(&PARAMETERS.map(str::to_owned))
}
