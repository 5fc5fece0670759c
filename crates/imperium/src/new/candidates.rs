//! Finds the callables of a module that may be its app, and ranks them.

use api::asgi;
use config::Wrong;

use super::names::{What, named_as_wsgi, needs_nothing, parameters, takes_two};
use super::project::Module;
use super::source::{callee, parentheses};

/// Common names of files that contain an app, most specific first.
const USUAL: [&str; 10] = [
    "wsgi.py",
    "passenger_wsgi.py",
    "app.py",
    "application.py",
    "main.py",
    "server.py",
    "run.py",
    "index.py",
    "api.py",
    "__init__.py",
];

/// Callables that return an app, and the framework that provides them.
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
/// Callables that return an app of another protocol than WSGI.
const NOT_WSGI: [&str; 8] =
    ["FastAPI", "Starlette", "Quart", "Litestar", "get_asgi_application", "Sanic", "BlackSheep", "Robyn"];
/// Those of them that are neither ASGI apps.
const OTHER_SERVERS: [&str; 3] = ["aiohttp", "tornado", "Robyn"];
/// Packages whose apps aren't WSGI callables, whatever their name.
const NOT_WSGI_PACKAGES: [&str; 6] = ["aiohttp", "fastapi", "quart", "sanic", "starlette", "tornado"];
/// Common names of functions that return an app.
const FACTORIES: [&str; 9] = [
    "create_app",
    "make_app",
    "app_factory",
    "create_application",
    "make_application",
    "build_app",
    "get_application",
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
                is_served.then(|| self.served(0, framework(self.module), name.clone()))
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
        let served = |framework, callable| Some(self.served(kind, framework, callable));
        match callee(value) {
            Some(called) if NOT_WSGI.contains(&called) => {
                Some((9, Verdict::Refused(self.not_wsgi(line, called))))
            }
            Some("Celery" | "Typer" | "Argument" | "ArgumentParser") => None,
            Some("Dash") if imports(self.module, "dash") => served("Flask", format!("{name}.server")),
            called => match self.maker(called) {
                Some(framework) => served(framework, name.to_owned()),
                None if self.is_app(name) => {
                    match NOT_WSGI_PACKAGES.into_iter().find(|it| imports(self.module, it)) {
                        Some(package) => Some((9, Verdict::Refused(self.not_wsgi(line, package)))),
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
        if is_async {
            return self.is_app(name).then(|| (9, Verdict::Refused(self.not_wsgi(line, "async def"))));
        }
        if named_as_wsgi(parameters) || self.is_app(name) && takes_two(parameters) {
            let kind = if self.is_app(name) { u8::from(self.usual.is_none() && !self.chosen) } else { 4 };
            return Some(self.served(kind, "WSGI", name.to_owned()));
        }
        if !FACTORIES.contains(&name) && !self.makes_app(body) {
            return None;
        }
        let kind = if FACTORIES.contains(&name) { FACTORY } else { 5 };
        if is_pyramid_main(name, parameters) {
            return Some(self.served(kind, "Pyramid", format!("{name}({{}})")));
        }
        match needs_nothing(parameters) {
            true => Some(self.served(kind, framework(self.module), format!("{name}()"))),
            false => Some((8, Verdict::Refused(self.arguments(line, name)))),
        }
    }

    fn class(&self, name: &str, body: &[String]) -> Option<(u8, Verdict)> {
        let method = |wanted: &str| {
            let found =
                body.iter().find_map(|it| it.strip_prefix("def ")?.strip_prefix(wanted)?.strip_prefix('('));
            let inside = format!("({}", found?);
            Some(parameters(parentheses(&inside)?.0).into_iter().skip(1).collect::<Vec<_>>())
        };
        let kind = if self.is_app(&name.to_lowercase()) { u8::from(self.usual.is_none()) } else { 4 };
        let served = |callable| Verdict::Served { framework: framework(self.module), callable };
        if method("__iter__").is_some() && method("__init__").is_some_and(|it| named_as_wsgi(&it)) {
            return Some((kind, served(name.to_owned())));
        }
        let is_app = method("__call__").is_some_and(|it| named_as_wsgi(&it));
        let is_made = method("__init__").is_none_or(|it| needs_nothing(&it));
        (is_app && is_made).then(|| (5, served(format!("{name}()"))))
    }

    /// Whether a function creates an app and returns it.
    fn makes_app(&self, body: &[String]) -> bool {
        let makes = |statement: &String| {
            let value = statement.strip_prefix("return ").or_else(|| Some(statement.split_once(" = ")?.1));
            self.maker(value.and_then(callee)).is_some()
        };
        body.iter().any(makes) && body.iter().any(|it| it.starts_with("return "))
    }

    /// The framework of what a call returns. `falcon.App(…)` is an app, but any other `App(…)` may be
    /// anything.
    fn maker(&self, called: Option<&str>) -> Option<&'static str> {
        let called = called?;
        if FACTORIES.contains(&called) || self.is_class_of_apps(called) {
            return Some(framework(self.module));
        }
        let (_, framework) = MAKERS.into_iter().find(|(name, _)| *name == called)?;
        let package = if framework == "web.py" { "web" } else { framework };
        (framework == "WSGI" || imports(self.module, package)).then_some(framework)
    }

    /// Whether the module has a class of that name whose instances are WSGI callables.
    fn is_class_of_apps(&self, called: &str) -> bool {
        let is_it = |what: &What| {
            let What::Class { name, body } = what else { return false };
            let call = body.iter().find_map(|it| it.strip_prefix("def __call__"));
            let takes = call.and_then(parentheses).map(|(inside, _)| parameters(inside));
            name == called && takes.is_some_and(|it| it.len() > 1 && named_as_wsgi(&it[1..]))
        };
        self.module.bindings().iter().any(|it| is_it(&it.what))
    }

    /// `application` is an app in any file, `app` only in files that usually contain one.
    fn is_app(&self, name: &str) -> bool {
        name == "application" || name == "app" && (self.usual.is_some() || self.chosen)
    }

    /// A file that starts a server during its import would never become ready.
    fn served(&self, kind: u8, framework: &'static str, callable: String) -> (u8, Verdict) {
        let runs = |what: &What| {
            let What::Other { text } = what else { return false };
            let method = text.strip_prefix(&*callable).and_then(|it| it.strip_prefix('.'));
            method.is_some_and(|it| it.starts_with("run("))
        };
        match self.module.bindings().iter().find(|it| runs(&it.what)) {
            Some(run) => (8, Verdict::Refused(self.runs(run.line))),
            None => (kind, Verdict::Served { framework, callable }),
        }
    }

    fn not_wsgi(&self, line: usize, called: &str) -> Wrong {
        let path = self.module.shown.display();
        let advice = match called {
            "get_asgi_application" => asgi::ADVICE_FOR_DJANGO,
            _ if OTHER_SERVERS.contains(&called) => {
                return Wrong::new(format!(
                    "{path}, line {line}: {called} creates an app that doesn't support WSGI"
                ))
                .hint("serve it with its own server, or name a WSGI app with `--app module:callable`");
            }
            _ => asgi::ADVICE,
        };
        Wrong::new(format!("{path}, line {line}: this is an ASGI app ({called}), and ASGI isn't supported"))
            .hint(format!(
                "{advice}. If the project also has a WSGI app, name it with `--app module:callable`"
            ))
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

/// Why a file would never finish its import: it starts a server with `app.run()`, where `app` is of a framework that has one.
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
        text.split_once(".run(").is_some_and(|(name, _)| apps.iter().any(|it| it == name))
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
    let known = ["Flask", "Pyramid", "Django", "Bottle", "Falcon"];
    known.into_iter().find(|it| imports(module, it)).unwrap_or("WSGI")
}

pub(crate) fn imports(module: &Module, package: &str) -> bool {
    let package = package.to_lowercase();
    let is_it = |module: &str| module.split('.').next() == Some(&package);
    module.bindings().iter().any(|it| match &it.what {
        What::Imported { module, .. } | What::Module { module } => is_it(module),
        _ => false,
    })
}
