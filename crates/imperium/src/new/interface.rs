//! Tells from the source of a module whether its app is an ASGI app.

use super::names::{Kind, Parameter, What};
use super::project::Module;

/// The interface of an app, as far as its source tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Interface {
    /// It is WSGI, or nothing is certain. The worker finds out.
    #[default]
    Open,
    /// It is ASGI.
    Asgi,
}

/// Frameworks whose apps are ASGI apps. One that builds upon another comes first.
pub(crate) const FRAMEWORKS: [&str; 6] = ["FastAPI", "Litestar", "Quart", "BlackSheep", "Sanic", "Starlette"];

/// Callables that return an ASGI app, the framework that provides them, and the package without which the name means
/// something else.
const MAKERS: [(&str, &str, Option<&str>); 11] = [
    ("FastAPI", "FastAPI", None),
    ("Starlette", "Starlette", None),
    ("Quart", "Quart", None),
    ("Litestar", "Litestar", None),
    ("Sanic", "Sanic", None),
    ("Application", "BlackSheep", Some("blacksheep")),
    ("get_asgi_application", "Django", None),
    ("ProtocolTypeRouter", "Django", None),
    ("ASGIApp", "ASGI", Some("socketio")),
    ("ASGIApp", "ASGI", Some("engineio")),
    ("WsgiToAsgi", "ASGI", None),
];

/// The framework of what a call returns, if that is an ASGI app. `value` is the whole expression.
pub(crate) fn maker(module: &Module, called: &str, value: &str) -> Option<&'static str> {
    let is_meant = |package: Option<&str>| package.is_none_or(|it| module.imports(it));
    let known = MAKERS.into_iter().find(|(name, _, package)| *name == called && is_meant(*package));
    known.map(|(_, framework, _)| framework).or_else(|| of_falcon(module, called, value).then_some("Falcon"))
}

/// `falcon.asgi.App()`, or `App()` of a module that imports it from there.
fn of_falcon(module: &Module, called: &str, value: &str) -> bool {
    let is_imported = |what: &What| match what {
        What::Imported { module, original, .. } => module == "falcon.asgi" && original == called,
        _ => false,
    };
    called == "App"
        && (value.contains("asgi.App(") && module.imports("falcon")
            || module.bindings().iter().any(|it| is_imported(&it.what)))
}

/// Whether a module adapts ASGI apps to WSGI: then the last assignment counts, which isn't followed here.
pub(crate) fn adapts(module: &Module) -> bool {
    module.imports("a2wsgi")
}

/// Whether the parameters have ASGI's names: `scope, receive, send`, or `scope` alone as in ASGI 2.
pub(crate) fn named_as_asgi(parameters: &[Parameter]) -> bool {
    let is_required = |it: &Parameter| it.kind == Kind::Required;
    let names: Vec<_> =
        parameters.iter().filter(|it| is_required(it)).map(|it| it.name.trim_start_matches('_')).collect();
    matches!(names.as_slice(), ["scope", "receive", "send"] | ["scope"])
}

/// Whether a module has a server of Socket.IO, which keeps a session in the memory of a worker over several requests.
pub(crate) fn keeps_sessions(module: &Module) -> bool {
    let says = |wanted: &[&str]| {
        module.statements().iter().any(|it| wanted.iter().any(|wanted| it.text.contains(wanted)))
    };
    (module.imports("socketio") || module.imports("engineio")) && says(&["Server(", "ASGIApp(", "WSGIApp("])
        || module.imports("flask_socketio") && says(&["SocketIO("])
}

/// Whether a file is one that frameworks and servers expect to have an ASGI app.
pub(crate) fn is_asgi_file(module: &Module) -> bool {
    module.is_named("asgi.py")
}
