//! Finds a Django project, and the settings to serve it with.

use std::path::{Path, PathBuf};

use config::Wrong;

use super::found::{AsgiToo, Found, Settings};
use super::interface::Interface;
use super::names::What;
use super::project::{Module, Project};
use super::python_path::literal;
use super::source::strings;

/// Common names of production settings modules.
const PRODUCTION: [&str; 6] = ["production", "prod", "live", "deploy", "release", "server"];
/// The largest number of modules that settings may consist of.
const MAX_CHAIN: usize = 12;

/// Finds the project whose `manage.py` is nearest to the root. None if there is none.
///
/// # Errors
/// If several are equally near.
pub(crate) fn find(project: &Project) -> Result<Option<Found>, Wrong> {
    let named = |it: &&Module| it.is_named("manage.py") && named_settings(it).is_some();
    let mut manages = project.modules.iter().filter(named);
    let Some(manage) = manages.next() else { return Ok(None) };
    match manages.next() {
        Some(other) if other.depth() == manage.depth() => {
            let (one, other) = (manage.shown.display(), other.shown.display());
            Err(Wrong::new(format!("there are several Django projects: {one} and {other}"))
                .hint("pass the folder of one of them"))
        }
        _ => Ok(Some(of_manage(project, manage))),
    }
}

/// The project of a `manage.py` that names a settings module.
pub(crate) fn of_manage(project: &Project, manage: &Module) -> Found {
    let directory = manage.path.parent().unwrap_or(Path::new("/"));
    let named = named_settings(manage).map(|it| it.0).unwrap_or_default();
    let wsgi = wsgi(project, directory, &named);
    let settings = settings(project, directory, wsgi, Some((&named, &manage.shown)));
    let evidence = format!("{}, with the settings {named}", manage.shown.display());
    let asgi = asgi(project, directory, &named);
    let app = match (wsgi.and_then(|it| app(it, directory)), asgi) {
        (Some(app), _) => app,
        (None, Some(asgi)) if let Some(app) = app(asgi, directory) => {
            let settings = self::settings(project, directory, Some(asgi), Some((&named, &manage.shown)));
            return Found {
                settings: Some(settings),
                module: Some(asgi.path.clone()),
                interface: Interface::Asgi,
                ..Found::new("Django", &app, directory, evidence)
            };
        }
        // A project without its own wsgi.py doesn't need one: `[env]` sets the settings.
        (None, _) => {
            let chosen = settings.chosen.clone();
            let chosen = chosen.or_else(|| {
                Some(format!("From {}, since there is no wsgi.py that sets it.", manage.shown.display()))
            });
            return Found {
                settings: Some(Settings { chosen, ..settings }),
                ..Found::new("Django", "django.core.wsgi:get_wsgi_application()", directory, evidence)
            };
        }
    };
    let module = wsgi.map(|it| it.path.clone());
    let asgi = wsgi.and_then(|it| asgi_too(project, directory, it));
    Found { settings: Some(settings), module, asgi, ..Found::new("Django", &app, directory, evidence) }
}

/// The value of `app` for the app of a module.
fn app(module: &Module, directory: &Path) -> Option<String> {
    let name = super::root::module_name(module.path.strip_prefix(directory).ok()?)?;
    Some(format!("{name}:{}", callable(module)))
}

/// The `asgi.py` next to a `wsgi.py`.
pub(crate) fn asgi_too(project: &Project, directory: &Path, wsgi: &Module) -> Option<AsgiToo> {
    let asgi = project.module(&wsgi.path.with_file_name("asgi.py")).filter(|_| wsgi.is_named("wsgi.py"))?;
    Some(AsgiToo {
        app: app(asgi, directory)?,
        wsgi_file: wsgi.shown.clone(),
        asgi_file: asgi.shown.clone(),
        has_channels: asgi.statements().iter().any(|it| it.text.contains("ProtocolTypeRouter")),
    })
}

fn wsgi<'p>(project: &'p Project, directory: &Path, settings: &str) -> Option<&'p Module> {
    entry(project, directory, settings, "wsgi.py")
}

fn asgi<'p>(project: &'p Project, directory: &Path, settings: &str) -> Option<&'p Module> {
    entry(project, directory, settings, "asgi.py")
}

/// Finds `wsgi.py` or `asgi.py`: in the package of the settings or a parent of it, otherwise next to `manage.py`,
/// otherwise the first one.
fn entry<'p>(project: &'p Project, directory: &Path, settings: &str, file: &str) -> Option<&'p Module> {
    let packages = settings.match_indices('.').rev().map(|(at, _)| settings[..at].replace('.', "/"));
    let in_package = |package: String| project.module(&directory.join(package).join(file));
    let mut others = project.modules.iter().filter(|it| it.is_named(file) && it.path.starts_with(directory));
    packages.chain([String::new()]).find_map(in_package).or_else(|| others.next())
}

fn callable(wsgi: &Module) -> &'static str {
    let has = |wanted: &str| {
        wsgi.bindings().iter().any(|it| match &it.what {
            What::Assigned { name, .. } | What::Imported { name, .. } | What::Function { name, .. } => {
                name == wanted
            }
            _ => false,
        })
    };
    if has("app") && !has("application") { "app" } else { "application" }
}

/// The settings module that a module names, and whether it overrides the environment.
fn named_settings(module: &Module) -> Option<(String, bool)> {
    let statement = module.statements().iter().find(|it| it.text.contains("DJANGO_SETTINGS_MODULE"))?;
    let mut texts = strings(&statement.text).skip_while(|it| *it != "DJANGO_SETTINGS_MODULE");
    let name = texts.nth(1).filter(|it| !it.is_empty())?;
    let insists = !statement.text.contains("setdefault") && !statement.text.contains("environ.get");
    Some((name.to_owned(), insists))
}

/// Chooses production settings, if there are any, otherwise those that `wsgi.py` or `manage.py` name.
pub(crate) fn settings(
    project: &Project,
    directory: &Path,
    wsgi: Option<&Module>,
    manage: Option<(&str, &PathBuf)>,
) -> Settings {
    let by_wsgi = wsgi.and_then(|it| Some((named_settings(it)?, it)));
    let insists = by_wsgi.as_ref().is_some_and(|((_, insists), _)| *insists);
    let named = match (&by_wsgi, manage) {
        (Some(((name, _), wsgi)), _) => Some((name.as_str(), wsgi.shown.display().to_string())),
        (None, Some((name, manage))) => Some((name, manage.display().to_string())),
        (None, None) => None,
    };
    let Some((named, by)) = named else { return Settings::default() };
    let production = production(directory, named);
    let mut settings = Settings { name: named.to_owned(), ..Settings::default() };
    match production {
        Some(production) if insists => {
            settings.note = Some(format!(
                "{by} always uses the settings {named}, although {production} exists: change it to that"
            ));
        }
        Some(production) => {
            settings.chosen = Some(format!("The production settings. Without this line, {by} uses {named}."));
            settings.name = production;
        }
        None if is_for_development(named) => {
            settings.note = Some(format!(
                "{named} has development settings, and no production settings were found: see Django's deployment checklist"
            ));
        }
        None if is_production(named) && manage.is_some_and(|(name, _)| name != named) => {
            settings.chosen = Some(format!("The production settings, from {by}."));
        }
        None => {}
    }
    chain(directory, &settings.name, &project.folder, &mut settings.modules);
    settings
}

fn is_production(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    PRODUCTION.iter().any(|it| last == *it || last.strip_suffix(it).is_some_and(|it| it.ends_with('_')))
}

fn is_for_development(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let last = last.trim_start_matches("settings_").trim_end_matches("_settings");
    matches!(last, "dev" | "devel" | "development" | "local" | "debug" | "test" | "testing")
}

/// The production settings next to the named ones. None if there are none, or if the named ones are for
/// production.
fn production(directory: &Path, named: &str) -> Option<String> {
    if is_production(named) {
        return None;
    }
    let (package, last) = named.rsplit_once('.').unwrap_or(("", named));
    let within = |package: &str, name: &str| {
        let name = if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") };
        module_path(directory, &name).map(|_| name)
    };
    let beside = PRODUCTION.iter().find_map(|it| {
        within(package, &format!("{last}_{it}")).or_else(|| within(package, &format!("{it}_{last}")))
    });
    let is_package = directory.join(named.replace('.', "/")).join("__init__.py").is_file();
    let inside = || PRODUCTION.iter().find_map(|it| within(named, it));
    let is_one_of_several =
        is_for_development(last) || matches!(last, "base" | "common" | "defaults" | "settings");
    let is_in_package = package.contains("settings") || package.contains("conf");
    let sibling = || PRODUCTION.iter().find_map(|it| within(package, it));
    beside
        .or_else(|| if is_package { inside() } else { None })
        .or_else(|| if is_one_of_several && is_in_package { sibling() } else { None })
}

/// The file of a module that is imported from a folder.
fn module_path(directory: &Path, name: &str) -> Option<PathBuf> {
    let path = directory.join(name.replace('.', "/"));
    let files = [path.with_extension("py"), path.join("__init__.py")];
    files.into_iter().find(|it| it.is_file())
}

/// Collects a settings module and, after it, the modules of the project that it imports settings from.
fn chain(directory: &Path, name: &str, project: &Path, found: &mut Vec<Module>) {
    let Some(module) = module_path(directory, name).and_then(|it| Module::read(it, project)) else { return };
    if found.len() >= MAX_CHAIN || found.iter().any(|it| it.path == module.path) {
        return;
    }
    let names: Vec<_> =
        module.bindings().iter().rev().filter_map(|it| imported(&module, &it.what, directory)).collect();
    found.push(module);
    names.iter().for_each(|name| chain(directory, name, project, found));
}

/// The absolute name of a settings module that another one imports from.
fn imported(importer: &Module, what: &What, directory: &Path) -> Option<String> {
    let What::Imported { module, original, .. } = what else { return None };
    let dots = module.chars().take_while(|it| *it == '.').count();
    if dots == 0 {
        let is_settings = original == "*" || module.contains("settings");
        return is_settings.then(|| module.clone());
    }
    let package = importer.path.ancestors().nth(dots)?.strip_prefix(directory).ok()?;
    let mut names: Vec<_> = package.iter().map(|it| it.to_str()).collect::<Option<_>>()?;
    names.extend(module[dots..].split('.').filter(|it| !it.is_empty()));
    if original != "*" && module.len() == dots {
        names.push(original);
    }
    Some(names.join("."))
}

/// The hosts of `ALLOWED_HOSTS` that are public names. One with a leading dot stands for itself and all its
/// subdomains.
pub(crate) fn allowed_hosts(settings: &Settings) -> Vec<String> {
    let hosts = settings.get("ALLOWED_HOSTS").into_iter().flat_map(|(_, value)| strings(value));
    let is_site = |host: &&str| host.trim_start_matches('.').contains('.') && !host.starts_with("127.");
    let domains = hosts.filter(is_site).flat_map(|host| match host.strip_prefix('.') {
        Some(name) => vec![name.to_owned(), format!("*.{name}")],
        None => vec![host.to_owned()],
    });
    domains.filter(|it| vassal::Domain::parse(it).is_ok()).collect()
}

/// `STATIC_URL` if it is a path of this site, or Django's default if it isn't set.
pub(crate) fn static_url(settings: &Settings) -> Option<String> {
    let url = settings.get("STATIC_URL").map_or(Some("static/"), |(_, value)| literal(value))?;
    (!url.contains("://")).then(|| url.to_owned())
}
