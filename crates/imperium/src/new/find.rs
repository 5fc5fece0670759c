//! Finds the app of a project by its source: Django's project, Flask's or Pyramid's app or factory, any WSGI callable.

use std::path::Path;

use config::Wrong;

use super::project::{Module, module_name};
use super::source::{Binding, bindings, callee, statements, strings};

/// Files that are named so to be served, the plainest first.
const USUAL: [&str; 5] = ["wsgi.py", "app.py", "application.py", "main.py", "__init__.py"];

/// What makes an app, by who makes it.
const MAKERS: [(&str, &str); 8] = [
    ("Flask", "Flask"),
    ("make_wsgi_app", "Pyramid"),
    ("get_wsgi_application", "Django"),
    ("Bottle", "Bottle"),
    ("default_app", "Bottle"),
    ("App", "Falcon"),
    ("WSGIApplication", "WSGI"),
    ("get_app", "Pyramid"),
];
/// What makes an app that speaks ASGI alone.
const ASGI: [&str; 6] = ["FastAPI", "Starlette", "Quart", "Litestar", "get_asgi_application", "Sanic"];
/// Functions that make an app, by custom.
const FACTORIES: [&str; 3] = ["create_app", "make_app", "app_factory"];

/// An app, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Such as `Flask`, or `WSGI` where it is none that is known.
    pub(crate) framework: &'static str,
    /// As the vassal file says it.
    pub(crate) app: String,
    /// Where it stands, and how.
    pub(crate) evidence: String,
}

/// The app of a project, whose own files come in the order of their nearness.
///
/// # Errors
/// When there is none that can be served, with what to do.
pub(crate) fn find(directory: &Path, modules: &[Module]) -> Result<Found, Wrong> {
    if let Some(django) = django(modules) {
        return Ok(django);
    }
    let best = modules.iter().flat_map(candidates).min_by_key(|it| it.rank);
    match best.map(|it| it.what) {
        Some(What::Served(found)) => Ok(with_framework(found, modules)),
        Some(What::Refused(wrong)) => Err(wrong),
        None => Err(none(directory)),
    }
}

/// A `wsgi.py` may only import the app: then the framework is that of the project.
fn with_framework(found: Found, modules: &[Module]) -> Found {
    match found.framework {
        "WSGI" => Found {
            framework: modules.iter().map(framework).find(|it| *it != "WSGI").unwrap_or("WSGI"),
            ..found
        },
        _ => found,
    }
}

/// `manage.py` names the settings; the app is in the `wsgi.py` of the same package, or of one above.
fn django(modules: &[Module]) -> Option<Found> {
    let manage = modules.iter().find(|it| it.path == Path::new("manage.py"))?;
    let settings = settings_module(manage)?;
    let package = settings.match_indices('.').rev().map(|(at, _)| &settings[..at]);
    let has_wsgi = |package: &&str| {
        let path = format!("{}/wsgi.py", package.replace('.', "/"));
        modules.iter().any(|it| it.path == Path::new(&path))
    };
    let package = package.into_iter().find(has_wsgi)?;
    let evidence = format!("manage.py, which names the settings {settings}");
    Some(Found { framework: "Django", app: format!("{package}.wsgi:application"), evidence })
}

/// What `manage.py` names as the settings.
pub(crate) fn settings_module(manage: &Module) -> Option<&str> {
    let line = manage.text.lines().find(|it| it.contains("DJANGO_SETTINGS_MODULE"))?;
    strings(line).find(|it| it.contains('.'))
}

/// The lower, the plainer.
type Rank = (u8, usize);

#[derive(Debug)]
struct Candidate {
    rank: Rank,
    what: What,
}

#[derive(Debug)]
enum What {
    Served(Found),
    Refused(Wrong),
}

fn candidates(module: &Module) -> Vec<Candidate> {
    let usual = USUAL.iter().position(|name| module.path.ends_with(name));
    let candidate = |(line, binding)| {
        let (kind, what) = what(module, usual, line, binding)?;
        Some(Candidate { rank: (kind, usual.unwrap_or(USUAL.len())), what })
    };
    bindings(&module.text).filter_map(candidate).collect()
}

fn what(module: &Module, usual: Option<usize>, line: usize, binding: Binding<'_>) -> Option<(u8, What)> {
    let served = |framework, name: &str| {
        let evidence = format!("{}, line {line}: {}", module.path.display(), shown(&module.text, line));
        Some(What::Served(Found { framework, app: format!("{}:{name}", target(&module.path)), evidence }))
    };
    match binding {
        Binding::Assigned { name, value } => match callee(value) {
            Some(called) if ASGI.contains(&called) => {
                Some((1, What::Refused(asgi(&module.path, line, called))))
            }
            Some("Celery") => None,
            called => match maker(module, called) {
                Some(framework) => Some((1, served(framework, name)?)),
                None if is_app(name, usual) => {
                    Some((u8::from(usual.is_none()), served(framework(module), name)?))
                }
                None => None,
            },
        },
        Binding::Imported { name } if is_app(name, usual) && usual < Some(4) => {
            Some((0, served(framework(module), name)?))
        }
        Binding::Function { name, parameters } if parameters.starts_with("environ, start_response") => {
            Some((if name == "application" { 1 } else { 4 }, served("WSGI", name)?))
        }
        Binding::Function { name, parameters } if FACTORIES.contains(&name) => {
            match needs_nothing(parameters) {
                true => Some((2, served(framework(module), &format!("{name}()"))?)),
                false => Some((3, What::Refused(arguments(&module.path, line, name)))),
            }
        }
        _ => None,
    }
}

/// `application` is one anywhere, `app` where an app is usual.
fn is_app(name: &str, usual: Option<usize>) -> bool {
    name == "application" || name == "app" && usual.is_some()
}

/// `falcon.App(…)` is an app, and any other `App(…)` may be anything.
fn maker(module: &Module, called: Option<&str>) -> Option<&'static str> {
    let (_, framework) = MAKERS.into_iter().find(|(name, _)| Some(*name) == called)?;
    let is_known = framework == "WSGI" || imports(module, framework);
    is_known.then_some(framework)
}

fn framework(module: &Module) -> &'static str {
    let known = ["Flask", "Pyramid", "Django", "Bottle", "Falcon"];
    known.into_iter().find(|it| imports(module, it)).unwrap_or("WSGI")
}

fn imports(module: &Module, framework: &str) -> bool {
    let package = framework.to_lowercase();
    let imports = |statement: &str| {
        let rest = statement.strip_prefix("from ").or_else(|| statement.strip_prefix("import "));
        rest.and_then(|it| it.split([' ', '.', ',']).next()) == Some(&package)
    };
    statements(&module.text).any(|(_, statement)| imports(statement))
}

/// Whether a function can be called without arguments.
fn needs_nothing(parameters: &str) -> bool {
    let list = parameters.rsplit_once(')').map_or(parameters, |(list, _)| list);
    list.split(',').map(str::trim).all(|it| it.is_empty() || it.starts_with('*') || it.contains('='))
}

fn target(path: &Path) -> String {
    module_name(path).unwrap_or_else(|| path.display().to_string())
}

fn shown(text: &str, line: usize) -> String {
    text.lines().nth(line - 1).unwrap_or_default().trim().chars().take(80).collect()
}

fn asgi(path: &Path, line: usize, called: &str) -> Wrong {
    Wrong::new(format!(
        "{}, line {line}: {called} makes an ASGI app, and WSGI is what is served",
        path.display()
    ))
    .cure("serve it by another server, or name its WSGI app in a vassal file of your own")
}

fn arguments(path: &Path, line: usize, name: &str) -> Wrong {
    let path = path.display();
    Wrong::new(format!("{path}, line {line}: {name} needs arguments, and a factory is called without any"))
        .cure(format!("write a wsgi.py with `application = {name}(…)`"))
}

/// Pyramid's own projects are named by an ini file alone.
fn none(directory: &Path) -> Wrong {
    let shown = directory.display();
    let ini = ["production.ini", "development.ini"].into_iter().find(|name| directory.join(name).is_file());
    match ini {
        Some(ini) => {
            Wrong::new(format!("{shown} has {ini}, and no module that makes an app of it")).cure(format!(
                "write a wsgi.py with two lines: `from pyramid.paster import get_app` and \
             `application = get_app(\"{ini}\")`"
            ))
        }
        None => {
            Wrong::new(format!("{shown} has no Django project, no Flask or Pyramid app and no WSGI callable"))
                .cure("name the folder that has wsgi.py, app.py or manage.py in it")
        }
    }
}

#[cfg(test)]
mod tests;
