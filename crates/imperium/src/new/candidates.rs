//! Finds the callables of a module that may be its app, and ranks them.

use config::Wrong;

use super::interface::{self, Interface, named_as_asgi};
use super::names::{What, named_as_wsgi, needs_nothing, parameters, takes_two};
use super::project::Module;
use super::source::{callee, parentheses};

/// Common names of files that contain an app, most specific first.
const USUAL: [&str; 11] = [
    "wsgi.py",
    "passenger_wsgi.py",
    "asgi.py",
    "app.py",
    "application.py",
    "main.py",
    "server.py",
    "run.py",
    "index.py",
    "api.py",
    "__init__.py",
];

/// Callables that return a WSGI app, and the framework that provides them. Those of ASGI are in `interface`.
const MAKERS: [(&str, &str); 12] = [
    ("Flask", "Flask"),
    ("APIFlask", "Flask"),
    ("make_wsgi_app", "Pyramid"),
    ("get_app", "Pyramid"),
    ("get_wsgi_application", "Django"),
    ("Bottle", "Bottle"),
    ("default_app", "Bottle"),
    ("App", "Falcon"),
    ("API", "Falcon"),
    ("wsgifunc", "web.py"),
    ("WSGIApplication", "WSGI"),
    ("loadapp", "WSGI"),
];
/// Packages whose apps are neither WSGI nor ASGI apps, whatever their name.
const OTHER_SERVERS: [&str; 3] = ["aiohttp", "robyn", "tornado"];
/// Common names of functions that return an app.
const FACTORIES: [&str; 10] = [
    "create_app",
    "make_app",
    "app_factory",
    "create_application",
    "make_application",
    "build_app",
    "get_application",
    "create_asgi_app",
    "create_wsgi_app",
    "get_wsgi_app",
];

/// The first part of the `Rank` of apps that a function returns. Lower ones are apps themselves.
pub(crate) const FACTORY: u8 = 2;

/// How good a candidate is, the lowest first: its kind, the depth of its file, the name of its file, its own
/// name.
pub(crate) type Rank = (u8, usize, usize, usize);

/// A callable of a module.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) rank: Rank,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) verdict: Verdict,
}

/// Whether a candidate can be served.
#[derive(Debug)]
pub(crate) enum Verdict {
    Served {
        /// Such as `Flask`, or `WSGI` if the framework is unknown.
        framework: &'static str,
        /// What follows the colon in `app`.
        callable: String,
        interface: Interface,
    },
    /// It looks like an app, but can't be served as it is.
    Refused(Wrong),
}

/// Returns all candidates of a module. If the operator named the module (`chosen`), its name doesn't have to
/// be a common one.
pub(crate) fn candidates(module: &Module, chosen: bool) -> Vec<Candidate> {
    let looked = Looked {
        module,
        usual: USUAL.iter().position(|name| module.is_named(name)).or_else(|| entry(module)),
        chosen,
    };
    let found = module.bindings().iter().filter_map(|it| Some((it.line, looked.judge(it.line, &it.what)?)));
    let candidate = |(line, (kind, verdict))| Candidate { rank: looked.rank(kind, &verdict), line, verdict };
    found.map(candidate).collect()
}

/// A file that ends in `.wsgi` ranks like `wsgi.py`.
fn entry(module: &Module) -> Option<usize> {
    module.path.extension().is_some_and(|it| it == "wsgi").then_some(0)
}

struct Looked<'a> {
    module: &'a Module,
    usual: Option<usize>,
    chosen: bool,
}

impl Looked<'_> {
    fn rank(&self, kind: u8, verdict: &Verdict) -> Rank {
        let name = match verdict {
            Verdict::Served { callable, .. } if callable == "application" => 0,
            Verdict::Served { callable, .. } if callable == "app" => 1,
            _ => 2,
        };
        (kind, self.module.depth(), self.usual.unwrap_or(USUAL.len()), name)
    }

    fn judge(&self, line: usize, what: &What) -> Option<(u8, Verdict)> {
        match what {
            What::Assigned { name, value } => self.assigned(line, name, value),
            What::Imported { original, name, module } => {
                let is_entry = self.usual.is_some_and(|it| it < USUAL.len() - 1) || self.chosen;
                let is_served = is_entry && self.is_app(name) && !is_foreign(module) && original != "*";
                is_served.then(|| self.served(0, framework(self.module), name.clone(), Interface::Open))
            }
            What::Function { name, parameters, is_async, body } => {
                self.function(line, name, parameters, *is_async, body)
            }
            What::Class { name, body } => self.class(name, body),
            What::Module { .. } | What::Other { .. } => None,
        }
    }

    fn assigned(&self, line: usize, name: &str, value: &str) -> Option<(u8, Verdict)> {
        let kind = u8::from(self.usual.is_none() && !self.chosen);
        let served = |framework, callable| Some(self.served(kind, framework, callable, Interface::Open));
        let called = callee(value);
        if let Some(framework) = called.and_then(|it| interface::maker(self.module, it, value)) {
            return Some(self.served(kind, framework, name.to_owned(), Interface::Asgi));
        }
        if called.is_some_and(|it| self.is_class_of(it, Interface::Asgi)) {
            return Some(self.served(kind, framework(self.module), name.to_owned(), Interface::Asgi));
        }
        match called {
            Some("Celery" | "Typer" | "Argument" | "ArgumentParser") => None,
            Some("Dash") if self.module.imports("dash") => served("Flask", format!("{name}.server")),
            called => match self.maker(called) {
                Some(framework) => served(framework, name.to_owned()),
                None if self.is_app(name) => {
                    match OTHER_SERVERS.into_iter().find(|it| self.module.imports(it)) {
                        Some(package) => Some((9, Verdict::Refused(self.other_server(line, package)))),
                        None if is_callable(value) => served(framework(self.module), name.to_owned()),
                        None => None,
                    }
                }
                None => None,
            },
        }
    }

    fn function(
        &self,
        line: usize,
        name: &str,
        parameters: &[super::names::Parameter],
        is_async: bool,
        body: &[String],
    ) -> Option<(u8, Verdict)> {
        let kind = if self.is_app(name) { u8::from(self.usual.is_none() && !self.chosen) } else { 4 };
        if named_as_asgi(parameters) && (is_async || self.is_app(name)) {
            return Some(self.served(kind, "ASGI", name.to_owned(), Interface::Asgi));
        }
        if is_async {
            return self.is_app(name).then(|| (9, Verdict::Refused(self.no_asgi(line, name))));
        }
        if named_as_wsgi(parameters) || self.is_app(name) && takes_two(parameters) {
            return Some(self.served(kind, "WSGI", name.to_owned(), Interface::Open));
        }
        if !FACTORIES.contains(&name) && !self.makes_app(body) {
            return None;
        }
        let kind = if FACTORIES.contains(&name) { FACTORY } else { 5 };
        if is_pyramid_main(name, parameters) {
            return Some(self.served(kind, "Pyramid", format!("{name}({{}})"), Interface::Open));
        }
        match needs_nothing(parameters) {
            true => {
                let (framework, interface) =
                    self.made(body).unwrap_or((framework(self.module), Interface::Open));
                Some(self.served(kind, framework, format!("{name}()"), interface))
            }
            false => Some((8, Verdict::Refused(self.arguments(line, name)))),
        }
    }

    fn class<'a>(&self, name: &str, body: &'a [String]) -> Option<(u8, Verdict)> {
        let method = |wanted: &str| {
            let define = |it: &'a String| it.strip_prefix("async ").unwrap_or(it).strip_prefix("def ");
            let found = body.iter().find_map(|it| define(it)?.strip_prefix(wanted)?.strip_prefix('('));
            let inside = format!("({}", found?);
            Some(parameters(parentheses(&inside)?.0).into_iter().skip(1).collect::<Vec<_>>())
        };
        let kind = if self.is_app(&name.to_lowercase()) { u8::from(self.usual.is_none()) } else { 4 };
        let served =
            |callable, interface| Verdict::Served { framework: framework(self.module), callable, interface };
        if method("__iter__").is_some() && method("__init__").is_some_and(|it| named_as_wsgi(&it)) {
            return Some((kind, served(name.to_owned(), Interface::Open)));
        }
        let call = method("__call__").unwrap_or_default();
        let is_made = method("__init__").is_none_or(|it| needs_nothing(&it));
        match is_made {
            true if named_as_wsgi(&call) => Some((5, served(format!("{name}()"), Interface::Open))),
            true if named_as_asgi(&call) => Some((5, served(format!("{name}()"), Interface::Asgi))),
            _ => None,
        }
    }

    /// Whether a function creates an app and returns it.
    fn makes_app(&self, body: &[String]) -> bool {
        self.made(body).is_some() && body.iter().any(|it| it.starts_with("return "))
    }

    /// The first app that a function creates.
    fn made(&self, body: &[String]) -> Option<(&'static str, Interface)> {
        body.iter().find_map(|statement| {
            let value = statement.strip_prefix("return ").or_else(|| Some(statement.split_once(" = ")?.1))?;
            let called = callee(value)?;
            let asgi = interface::maker(self.module, called, value).map(|it| (it, Interface::Asgi));
            asgi.or_else(|| Some((self.maker(Some(called))?, Interface::Open)))
        })
    }

    /// The framework of what a call returns. `falcon.App(…)` is an app, but any other `App(…)` may be
    /// anything.
    fn maker(&self, called: Option<&str>) -> Option<&'static str> {
        let called = called?;
        if FACTORIES.contains(&called) || self.is_class_of(called, Interface::Open) {
            return Some(framework(self.module));
        }
        let (_, framework) = MAKERS.into_iter().find(|(name, _)| *name == called)?;
        let package = if framework == "web.py" { "web" } else { framework };
        (framework == "WSGI" || self.module.imports(package)).then_some(framework)
    }

    /// Whether the module has a class of that name whose instances are ASGI apps, or else WSGI callables.
    fn is_class_of(&self, called: &str, interface: Interface) -> bool {
        let is_app = match interface {
            Interface::Asgi => named_as_asgi,
            Interface::Open => named_as_wsgi,
        };
        let is_it = |what: &What| {
            let What::Class { name, body } = what else { return false };
            let define = |it: &'_ String| it.strip_prefix("async ").unwrap_or(it).to_owned();
            let call = body.iter().find_map(|it| Some(define(it).strip_prefix("def __call__")?.to_owned()));
            let takes = call.as_deref().and_then(parentheses).map(|(inside, _)| parameters(inside));
            name == called && takes.is_some_and(|it| it.len() > 1 && is_app(&it[1..]))
        };
        self.module.bindings().iter().any(|it| is_it(&it.what))
    }

    /// `application` is an app in any file, `app` only in files that usually contain one.
    fn is_app(&self, name: &str) -> bool {
        name == "application" || name == "app" && (self.usual.is_some() || self.chosen)
    }

    /// A file that starts a server during its import would never become ready.
    fn served(
        &self,
        kind: u8,
        framework: &'static str,
        callable: String,
        interface: Interface,
    ) -> (u8, Verdict) {
        let runs = |what: &What| {
            let What::Other { text } = what else { return false };
            let method = text.strip_prefix(&*callable).and_then(|it| it.strip_prefix('.'));
            method.is_some_and(|it| it.starts_with("run(")) || runs_server(text)
        };
        let interface = match interface::adapts(self.module) {
            true => Interface::Open,
            false if interface::is_asgi_file(self.module) => Interface::Asgi,
            false => interface,
        };
        match self.module.bindings().iter().find(|it| runs(&it.what)) {
            Some(run) => (8, Verdict::Refused(self.runs(run.line))),
            None => (kind, Verdict::Served { framework, callable, interface }),
        }
    }

    fn other_server(&self, line: usize, package: &str) -> Wrong {
        let path = self.module.shown.display();
        Wrong::new(format!(
            "{path}, line {line}: {package} creates an app that is neither a WSGI nor an ASGI app"
        ))
        .hint("serve it with its own server, or name another app with `--app module:callable`")
    }

    fn no_asgi(&self, line: usize, name: &str) -> Wrong {
        let path = self.module.shown.display();
        Wrong::new(format!("{path}, line {line}: {name} is a coroutine function without ASGI's parameters"))
            .hint("an ASGI app takes `scope, receive, send`; name another app with `--app module:callable`")
    }

    fn arguments(&self, line: usize, name: &str) -> Wrong {
        let path = self.module.shown.display();
        Wrong::new(format!("{path}, line {line}: {name} needs arguments"))
            .hint(format!("pass literals, such as `--app 'module:{name}(\"prod\")'`"))
    }

    fn runs(&self, line: usize) -> Wrong {
        runs(self.module, line)
    }
}

fn runs(module: &Module, line: usize) -> Wrong {
    let (path, text) = (module.shown.display(), module.line(line));
    Wrong::new(format!("{path}, line {line}: `{text}` starts its own server when the file is imported"))
        .hint("move it under `if __name__ == \"__main__\":`")
}

/// Whether a statement starts a server, whatever app it is for.
fn runs_server(text: &str) -> bool {
    ["uvicorn.run(", "granian.Granian(", "web.run_app("].iter().any(|it| text.starts_with(it))
}

/// Why a file would never finish its import: it starts a server with `app.run()`, where `app` is of a framework that has
/// one, or one of another package.
pub(crate) fn own_server(module: &Module) -> Option<Wrong> {
    const WITH_A_SERVER: [&str; 5] = ["Flask", "Bottle", "Quart", "Sanic", "Dash"];
    let made = |it: &What| match it {
        What::Assigned { name, value } => {
            callee(value).is_some_and(|it| WITH_A_SERVER.contains(&it)).then(|| name.clone())
        }
        _ => None,
    };
    let apps: Vec<String> = module.bindings().iter().filter_map(|it| made(&it.what)).collect();
    let runs_one = |it: &What| {
        let What::Other { text } = it else { return false };
        runs_server(text)
            || text.split_once(".run(").is_some_and(|(name, _)| apps.iter().any(|it| it == name))
    };
    module.bindings().iter().find(|it| runs_one(&it.what)).map(|it| runs(module, it.line))
}

/// `main(global_config, **settings)`, which Paste calls. The file isn't needed for it.
fn is_pyramid_main(name: &str, parameters: &[super::names::Parameter]) -> bool {
    name == "main" && parameters.first().is_some_and(|it| it.name.contains("config")) && parameters.len() <= 2
}

/// Excludes strings, lists, and placeholders such as `app = None`, which a later line changes.
fn is_callable(value: &str) -> bool {
    !value.starts_with(['"', '\'', '[', '{']) && !matches!(value, "None" | "True" | "False")
}

/// Names that are imported from other kinds of apps, such as `from celery import app`.
fn is_foreign(module: &str) -> bool {
    matches!(module.split('.').next().unwrap_or_default(), "absl" | "celery" | "google" | "typing")
        || module.ends_with("celery")
}

/// The framework of a module, according to its imports.
pub(crate) fn framework(module: &Module) -> &'static str {
    let known = ["Flask", "Pyramid", "Django", "Bottle", "Falcon"].into_iter().chain(interface::FRAMEWORKS);
    let mut known = known.filter(|it| module.imports(it));
    known.next().unwrap_or(if interface::is_asgi_file(module) { "ASGI" } else { "WSGI" })
}
