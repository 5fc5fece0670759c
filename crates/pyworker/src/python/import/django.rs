//! Serves the static files of a Django app in development, as `manage.py runserver` does.

use std::env;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Set only by `imperium up APP`.
const DEVELOPMENT: &str = "IMPERIUM_DEVELOPMENT";

/// Wraps a Django app, of WSGI or ASGI, in Django's handler of static files if `runserver` would: if `DEBUG` is set and
/// `django.contrib.staticfiles` is installed. The same goes for the app that Channels' router has for HTTP.
///
/// # Errors
/// Exceptions of Django.
pub(super) fn with_static_files(app: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if env::var_os(DEVELOPMENT).is_none() {
        return Ok(app);
    }
    let class = app.get_type();
    let (name, module) = (class.name()?, class.module()?);
    match (name.to_str()?, module.to_str()?) {
        ("WSGIHandler", "django.core.handlers.wsgi") => wrapped(app, "StaticFilesHandler"),
        ("ASGIHandler", "django.core.handlers.asgi") => wrapped(app, "ASGIStaticFilesHandler"),
        ("ProtocolTypeRouter", "channels.routing") => {
            let apps = app.getattr("application_mapping")?.cast_into::<PyDict>()?;
            if let Some(http) = apps.get_item("http")? {
                apps.set_item("http", with_static_files(http)?)?;
            }
            Ok(app)
        }
        _ => Ok(app),
    }
}

fn wrapped<'py>(app: Bound<'py, PyAny>, handler: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = app.py();
    let is_debug = py.import("django.conf")?.getattr("settings")?.getattr("DEBUG")?.is_truthy()?;
    let apps = py.import("django.apps")?.getattr("apps")?;
    if !is_debug || !apps.call_method1("is_installed", ("django.contrib.staticfiles",))?.is_truthy()? {
        return Ok(app);
    }
    py.import("django.contrib.staticfiles.handlers")?.getattr(handler)?.call1((app,))
}
