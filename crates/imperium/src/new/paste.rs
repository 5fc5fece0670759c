//! Finds the Paste file of a project, which names the app in Pyramid's own layouts and many older ones.

use std::path::{Path, PathBuf};

use super::found::Found;
use super::ini::{sections, settings};
use super::project::Project;
use super::virtualenv::Virtualenv;

/// Sections that define the app `main`.
const SECTIONS: [&str; 4] = ["app:main", "composite:main", "pipeline:main", "composit:main"];

/// How many parent folders of the file are searched for the app's module.
const MAX_ABOVE: usize = 3;

/// Returns the app of the best file: a production file if there is one, never one for tests.
pub(crate) fn find(project: &Project) -> Option<Found> {
    plainest(project).and_then(|(path, text)| of_file(project, path, text))
}

/// Whether the project has a Paste file.
pub(crate) fn is_there(project: &Project) -> bool {
    plainest(project).is_some()
}

fn plainest(project: &Project) -> Option<(&Path, &str)> {
    let files = project.settings.iter().filter(|(_, text)| sections(text).any(|it| SECTIONS.contains(&it)));
    let ranked = files.filter_map(|(path, text)| Some((rank(path)?, path, text)));
    let (_, path, text) = ranked.min_by_key(|(rank, path, _)| (*rank, path.components().count()))?;
    Some((path, text))
}

/// Returns the app of one file. None if it defines none.
pub(crate) fn of_file(project: &Project, path: &Path, text: &str) -> Option<Found> {
    let section = sections(text).find(|it| SECTIONS.contains(it))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let directory = factory(text, section).and_then(|name| directory(project, folder, name));
    let directory = directory.unwrap_or_else(|| folder.to_owned());
    let target = path.strip_prefix(&directory).unwrap_or(path).display().to_string();
    let shown = project.shown(path).display();
    let evidence = format!("[{section}] in {shown}, whose logging configuration is applied too");
    let of_pyramid = text.contains("pyramid") || project.modules.iter().any(|it| it.imports("pyramid"));
    let framework = if of_pyramid { "Pyramid" } else { "WSGI" };
    Some(Found { egg: egg(text, section), ..Found::new(framework, &target, &directory, evidence) })
}

/// The folder that a module is imported from.
fn directory(project: &Project, folder: &Path, name: &str) -> Option<PathBuf> {
    let file = Path::new(&name.replace('.', "/")).to_owned();
    let files = [file.with_extension("py"), file.join("__init__.py")];
    let is_it = |path: &Path| files.iter().any(|it| path.ends_with(it));
    let above =
        || folder.ancestors().take(MAX_ABOVE).find(|it| files.iter().any(|file| it.join(file).is_file()));
    match project.modules.iter().find(|it| is_it(&it.path)) {
        Some(module) => Some(super::root::place(module).directory),
        None => above().map(Path::to_owned),
    }
}

/// The priority of a file, the lowest first. None for test configurations.
fn rank(path: &Path) -> Option<u8> {
    match path.file_stem()?.to_str()? {
        "production" => Some(0),
        name if name.contains("test") => None,
        name if name.contains("prod") || name.contains("live") => Some(1),
        name if name.contains("dev") || name.contains("local") => Some(3),
        _ => Some(2),
    }
}

/// The module in `paste.app_factory = shop:main` or `use = call:shop:main`.
fn factory<'t>(text: &'t str, section: &str) -> Option<&'t str> {
    let of_section = |it: &super::ini::Setting<'_>| it.section == section;
    settings(text).filter(of_section).find_map(|it| match it.key {
        "paste.app_factory" | "paste.composite_factory" => it.value.split(':').next(),
        "use" => it.value.strip_prefix("call:")?.split(':').next(),
        _ => None,
    })
}

/// The package in `use = egg:shop`, which has to be installed.
fn egg(text: &str, section: &str) -> Option<String> {
    let mut of_section = settings(text).filter(|it| it.section == section && it.key == "use");
    let name = of_section.find_map(|it| it.value.strip_prefix("egg:"))?;
    Some(name.split(['#', ' ']).next()?.to_owned())
}

/// Tells how to install the file's package, if it isn't installed.
pub(crate) fn missing(egg: &str, project: &Path, python: &Virtualenv) -> Option<String> {
    (!python.has_distribution(egg)).then(|| {
        let (path, install) = (python.path.display(), python.install(&format!("-e {}", project.display())));
        format!("the package {egg}, which the Paste file names, isn't installed in {path}: run `{install}`")
    })
}
