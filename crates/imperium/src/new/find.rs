//! Finds the app of a project: the one that a uWSGI file names, a Django project, an app or a factory in the
//! source, a Paste file, an installed package.

use std::path::Path;

use config::Wrong;
use vassal::{App, Target};

use super::candidates::{Candidate, FACTORY, Rank, Verdict, candidates, framework};
use super::django;
use super::found::Found;
use super::interface::{self, Interface};
use super::project::{Module, Project, read};
use super::root::{module_name, place};
use super::uwsgi;
use super::virtualenv::Virtualenv;
use super::{installed, paste};

/// Finds the app of a project's folder.
///
/// # Errors
/// If there is none that can be served. The error says what to do.
pub(crate) fn find(project: &Project, python: Option<&Virtualenv>) -> Result<Found, Wrong> {
    if let Some(found) = uwsgi::find(project)? {
        return Ok(with_settings(found, project));
    }
    if let Some(found) = django::find(project)? {
        return Ok(found);
    }
    let mut refused = None;
    match in_source(project, &project.modules, false) {
        // If there is a Paste file, prefer its configuration to calling a factory without one.
        Some(Ok((found, rank))) if rank.0 < FACTORY || !paste::is_there(project) => {
            return Ok(with_settings(found, project));
        }
        Some(Err(wrong)) => refused = Some(wrong),
        _ => {}
    }
    if let Some(found) = paste::find(project) {
        return Ok(found);
    }
    if let Some(wrong) = refused {
        return Err(wrong);
    }
    python.and_then(|it| installed::find(project, it)).ok_or_else(|| none(project))
}

/// Finds the app of a file that the operator named.
///
/// # Errors
/// As for `find`.
pub(crate) fn in_file(project: &Project, file: &Path) -> Result<Found, Wrong> {
    let shown = project.shown(file).display().to_string();
    let nothing = || {
        Wrong::new(format!("no WSGI or ASGI app was found in {shown}"))
            .hint(format!("name it with `--app {shown}:NAME`"))
    };
    if file.extension().is_some_and(|it| it == "ini") {
        let text = read(file).unwrap_or_default();
        let by_uwsgi = uwsgi::of_file(project, file, &text)?.map(|it| with_settings(it, project));
        return by_uwsgi.or_else(|| paste::of_file(project, file, &text)).ok_or_else(|| {
            Wrong::new(format!("{shown} has neither [uwsgi] with a module nor [app:main]"))
                .hint("pass the folder, or the file that has the app")
        });
    }
    let module = Module::read(file.to_owned(), &project.folder).ok_or_else(nothing)?;
    if module.is_named("manage.py") {
        let found = django::of_manage(project, &module);
        if found.settings.as_ref().is_some_and(|it| !it.name.is_empty()) {
            return Ok(found);
        }
    }
    match in_source(project, std::slice::from_ref(&module), true) {
        Some(found) => Ok(with_settings(found?.0, project)),
        None => Err(nothing()),
    }
}

/// The app that the operator named, with the folder that it is imported from.
pub(crate) fn named(project: &Project, app: &App) -> Found {
    let found = |framework, directory: &Path| {
        Found::new(framework, &app.to_string(), directory, "as given by --app".to_owned())
    };
    let Target::Module(name) = &app.target else { return found("WSGI", &project.folder) };
    let is_it = |module: &&Module| {
        let place = place(module);
        module.path.strip_prefix(&place.directory).ok().and_then(module_name).as_ref() == Some(name)
    };
    match project.modules.iter().find(is_it) {
        Some(module) => {
            let mut found = found(framework(module), &place(module).directory);
            found.module = Some(module.path.clone());
            found.interface = interface_of(module, app);
            with_settings(with_framework(found, &project.modules), project)
        }
        None => found("WSGI", &project.folder),
    }
}

fn in_source(project: &Project, modules: &[Module], chosen: bool) -> Option<Result<(Found, Rank), Wrong>> {
    let all =
        modules.iter().flat_map(|module| candidates(module, chosen).into_iter().map(move |it| (module, it)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, it)| it.rank);
    let served = all.iter().find_map(|(module, it)| match &it.verdict {
        Verdict::Served { framework, callable, interface } => {
            Some((it.rank, *module, it.line, (*framework, *interface), callable))
        }
        Verdict::Refused(_) => None,
    });
    let Some((rank, module, line, (framework, interface), callable)) = served else {
        let refused = all.into_iter().find_map(|(_, it)| match it.verdict {
            Verdict::Refused(wrong) => Some(wrong),
            Verdict::Served { .. } => None,
        });
        return refused.map(Err);
    };
    let framework = if (framework, interface) == ("WSGI", Interface::Asgi) { "ASGI" } else { framework };
    let place = place(module);
    let by_path = if place.by_path.is_empty() { String::new() } else { format!(" ({})", place.by_path) };
    let evidence = format!("{}, line {line}: {}{by_path}", module.shown.display(), module.line(line));
    let app = format!("{}:{callable}", place.target);
    let other = |(other, it): &&(&Module, Candidate)| {
        is_equal(it.rank, rank)
            && other.path.parent() != module.path.parent()
            && matches!(it.verdict, Verdict::Served { .. })
    };
    let found = Found {
        module: Some(module.path.clone()),
        interface,
        other: all
            .iter()
            .find(other)
            .map(|(other, it)| format!("{}, line {}", other.shown.display(), it.line)),
        ..Found::new(framework, &app, &place.directory, evidence)
    };
    Some(Ok((with_framework(found, &project.modules), rank)))
}

/// Compares kind and depth.
fn is_equal(one: Rank, other: Rank) -> bool {
    (one.0, one.1) == (other.0, other.1)
}

/// The interface of an app that the operator named.
fn interface_of(module: &Module, app: &App) -> Interface {
    let named = app.to_string();
    let named = named.split_once(':').map(|it| it.1);
    let is_it = |it: &&Candidate| match (&it.verdict, named) {
        (Verdict::Served { callable, .. }, Some(named)) => callable == named,
        _ => false,
    };
    let all = candidates(module, true);
    match all.iter().find(is_it).map(|it| &it.verdict) {
        Some(Verdict::Served { interface, .. }) => *interface,
        _ if interface::is_asgi_file(module) => Interface::Asgi,
        _ => Interface::Open,
    }
}

/// A `wsgi.py` may only import the app: then the framework is that of other modules.
fn with_framework(found: Found, modules: &[Module]) -> Found {
    match found.framework {
        own @ ("WSGI" | "ASGI") => {
            let near = modules.iter().filter(|it| it.path.starts_with(&found.directory));
            let is_known = |it: &&str| !matches!(*it, "WSGI" | "ASGI");
            Found { framework: near.map(framework).find(is_known).unwrap_or(own), ..found }
        }
        _ => found,
    }
}

/// Adds the settings of a Django project that was found by its `wsgi.py`.
fn with_settings(found: Found, project: &Project) -> Found {
    let wsgi = found.module.as_deref().and_then(|it| project.module(it));
    match (found.framework, &found.settings, wsgi) {
        ("Django", None, Some(wsgi)) => {
            let settings = django::settings(project, &found.directory, Some(wsgi), None);
            let asgi = django::asgi_too(project, &found.directory, wsgi);
            Found { settings: Some(settings), asgi, ..found }
        }
        _ => found,
    }
}

fn none(project: &Project) -> Wrong {
    let shown = project.folder.display();
    Wrong::new(format!("{shown} has no Django project, and no WSGI or ASGI app was found in it")).hint(
        "pass the folder or the file that has the app; for an app that was installed with pip, pass the callable from its \
         documentation for WSGI or ASGI servers, such as `--app module:callable`",
    )
}

#[cfg(test)]
mod tests;
