//! Finds a project's folders of static files, and whether frontd can serve them instead of the app.

use std::path::Path;

use super::django::static_url;
use super::found::{Settings, Static};
use super::project::Module;
use super::python_path::path;
use super::source::{parentheses, split, strings};

/// The static files of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statics {
    /// The folders that frontd serves.
    pub(crate) served: Vec<Static>,
    /// Reasons why the app keeps serving some itself: it adds headers or compression that frontd wouldn't.
    pub(crate) left: Vec<String>,
}

/// `STATIC_URL` and `STATIC_ROOT` of Django's settings.
pub(crate) fn django(directory: &Path, settings: &Settings, modules: &[&Module]) -> Statics {
    if let Some(by) = settings.mention("whitenoise.middleware").or_else(|| wrapped(modules)) {
        return Statics::left_to_whitenoise(by);
    }
    let served = folder_of_django(directory, settings);
    Statics { served: served.into_iter().collect(), ..Statics::default() }
}

fn folder_of_django(directory: &Path, settings: &Settings) -> Option<Static> {
    let (module, root) = settings.get("STATIC_ROOT")?;
    let url = static_url(settings)?;
    let folder = path(root, module, &settings.modules, directory)?;
    (folder != directory && folder.is_absolute()).then(|| Static {
        prefix: prefix(&url),
        folder,
        evidence: format!("STATIC_URL and STATIC_ROOT in {}", module.shown.display()),
    })
}

/// The module that wraps its app with WhiteNoise.
fn wrapped<'m>(modules: &[&'m Module]) -> Option<&'m Module> {
    let wraps = |module: &Module| module.statements().iter().any(|it| it.text.contains("WhiteNoise("));
    modules.iter().find(|it| wraps(it)).copied()
}

/// The folder `static` next to a Flask app, which Flask serves at `/static/` by default.
pub(crate) fn flask(modules: &[&Module]) -> Statics {
    let folder = |module: &&&Module| {
        let folder = module.path.with_file_name("static");
        (makes_flask(module) && folder.is_dir()).then_some(folder)
    };
    let Some((module, folder)) = modules.iter().find_map(|it| Some((it, folder(&it)?))) else {
        return Statics::default();
    };
    if let Some(by) = wrapped(modules) {
        return Statics::left_to_whitenoise(by);
    }
    if let Some((by, line)) = sends_more(modules) {
        let left = format!("{}, line {line} changes how Flask serves static files", by.shown.display());
        return Statics { left: vec![left], ..Statics::default() };
    }
    let evidence = format!("The folder static next to {}, which is Flask's default", module.shown.display());
    Statics { served: vec![Static { prefix: "/static/".to_owned(), folder, evidence }], ..Statics::default() }
}

/// Whether the module creates a Flask app with the default folder and URL of static files.
fn makes_flask(module: &Module) -> bool {
    let call = module.statements().iter().find(|it| it.text.contains("Flask("));
    call.is_some_and(|it| !it.text.contains("static_folder") && !it.text.contains("static_url_path"))
}

/// The line where a Flask app changes the headers of static files, or uses an extension that does.
fn sends_more<'m>(modules: &[&'m Module]) -> Option<(&'m Module, usize)> {
    const MARKS: [&str; 5] =
        ["SEND_FILE_MAX_AGE_DEFAULT", "get_send_file_max_age", "Talisman(", "Compress(", ".after_request"];
    let line = |module: &Module| {
        let statement =
            module.statements().iter().find(|it| MARKS.iter().any(|mark| it.text.contains(mark)))?;
        Some(statement.line)
    };
    modules.iter().find_map(|it| Some((*it, line(it)?)))
}

/// Handles `config.add_static_view("static", "shop:static")`, or with a path relative to the module.
pub(crate) fn pyramid(directory: &Path, modules: &[&Module]) -> Statics {
    let mut statics = Statics::default();
    if let Some(by) = wrapped(modules) {
        return Statics::left_to_whitenoise(by);
    }
    for module in modules {
        let views = module.statements().iter().filter(|it| it.text.contains(".add_static_view("));
        for view in views {
            let Some((call, _)) =
                view.text.split_once(".add_static_view").and_then(|(_, it)| parentheses(it))
            else {
                continue;
            };
            let Some(found) = static_view(directory, module, call) else { continue };
            match split(call, ',').iter().any(|it| it.starts_with("cache_max_age")) {
                true => statics.left.push(format!(
                    "Pyramid serves {} with the cache_max_age in {}, line {}",
                    found.prefix,
                    module.shown.display(),
                    view.line
                )),
                false => statics.served.push(found),
            }
        }
    }
    statics
}

fn static_view(directory: &Path, module: &Module, call: &str) -> Option<Static> {
    let mut texts = strings(call);
    let (name, path) = (texts.next()?, texts.next()?);
    let folder = match path.split_once(':') {
        Some((package, path)) => directory.join(package.replace('.', "/")).join(path),
        None => module.path.with_file_name(path),
    };
    let evidence = format!("add_static_view in {}", module.shown.display());
    (folder.is_dir() && !name.contains("//")).then(|| Static { prefix: prefix(name), folder, evidence })
}

/// Only detects WhiteNoise, which works with any WSGI app.
pub(crate) fn other(modules: &[&Module]) -> Statics {
    wrapped(modules).map(Statics::left_to_whitenoise).unwrap_or_default()
}

impl Statics {
    fn left_to_whitenoise(by: &Module) -> Self {
        Self {
            left: vec![format!("WhiteNoise serves the static files ({})", by.shown.display())],
            served: Vec::new(),
        }
    }
}

pub(crate) fn prefix(url: &str) -> String {
    match url.trim_matches('/') {
        "" => "/".to_owned(),
        path => format!("/{path}/"),
    }
}
