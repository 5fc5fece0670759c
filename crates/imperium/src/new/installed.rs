//! Finds an app that was installed with pip, and whose source isn't in the project's folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::candidates::{Verdict, candidates};
use super::found::Found;
use super::names::What;
use super::project::{Module, Project, read};
use super::root::module_name;
use super::virtualenv::Virtualenv;

/// The largest number of packages that are inspected.
const MAX_PACKAGES: usize = 30;
/// Packages that are often installed with an app, but aren't one.
const TOOLS: [&str; 24] = [
    "apiflask",
    "bottle",
    "celery",
    "dash",
    "django",
    "falcon",
    "flask",
    "gevent",
    "granian",
    "gunicorn",
    "jinja2",
    "pip",
    "pyramid",
    "requests",
    "setuptools",
    "sqlalchemy",
    "uv",
    "uwsgi",
    "waitress",
    "web",
    "webob",
    "werkzeug",
    "wheel",
    "whitenoise",
];

/// Finds the app of a package that was explicitly installed.
pub(crate) fn find(project: &Project, python: &Virtualenv) -> Option<Found> {
    let wanted = requirements(&project.folder);
    let found = python.site_packages().into_iter().flat_map(|packages| {
        let distributions = distributions(&packages, &wanted);
        distributions.into_iter().take(MAX_PACKAGES).filter_map(move |it| of_distribution(&packages, &it))
    });
    let (name, app, evidence) = found.into_iter().next()?;
    let evidence = format!("the package {name}, installed in {}: {evidence}", python.path.display());
    Some(Found::new("WSGI", &app, &project.folder, evidence))
}

struct Distribution {
    name: String,
    packages: Vec<String>,
}

/// The packages that pip was asked to install, without their dependencies.
fn distributions(site_packages: &Path, wanted: &[String]) -> Vec<Distribution> {
    let entries = fs::read_dir(site_packages).into_iter().flatten().flatten().map(|it| it.path());
    let mut infos: Vec<_> = entries.filter(|it| it.extension().is_some_and(|it| it == "dist-info")).collect();
    infos.sort();
    let distribution = |info: &PathBuf| {
        let name = normal(info.file_stem()?.to_str()?.split('-').next()?);
        let is_wanted = info.join("REQUESTED").exists() || wanted.contains(&name);
        let packages = packages(info, &name);
        (is_wanted && !TOOLS.contains(&name.as_str())).then_some(Distribution { name, packages })
    };
    infos.iter().filter_map(distribution).collect()
}

/// The names that it can be imported as.
fn packages(info: &Path, name: &str) -> Vec<String> {
    let names = read(&info.join("top_level.txt")).unwrap_or_default();
    let names: Vec<_> = names.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    if names.is_empty() { vec![name.replace('-', "_")] } else { names }
}

fn requirements(folder: &Path) -> Vec<String> {
    let text = read(&folder.join("requirements.txt")).unwrap_or_default();
    let name = |line: &str| {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(line.len());
        Some(normal(&line[..end])).filter(|it| !it.is_empty())
    };
    text.lines().filter_map(|line| name(line.trim())).collect()
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn of_distribution(site_packages: &Path, distribution: &Distribution) -> Option<(String, String, String)> {
    let app = distribution.packages.iter().find_map(|it| of_package(site_packages, it))?;
    Some((distribution.name.clone(), app.0, app.1))
}

fn of_package(site_packages: &Path, package: &str) -> Option<(String, String)> {
    let folder = site_packages.join(package);
    let project = match folder.is_dir() {
        true => Project::look(&folder),
        false => {
            let module = Module::read(folder.with_extension("py"), site_packages)?;
            Project { folder: site_packages.to_owned(), modules: vec![module], ..Project::default() }
        }
    };
    let found = project
        .modules
        .iter()
        .flat_map(|module| candidates(module, false).into_iter().map(move |it| (module, it)));
    let served = found.filter_map(|(module, it)| match it.verdict {
        // Which of them are ASGI apps, the worker finds out.
        Verdict::Served { callable, .. } => Some((it.rank, module, it.line, callable)),
        Verdict::Refused(_) => None,
    });
    let (_, module, line, callable) = served.min_by_key(|it| it.0)?;
    let path = module.path.strip_prefix(site_packages).ok()?;
    let name = module_name(path)?;
    let evidence = format!("{}, line {line}: {}", path.display(), module.line(line));
    // If the package re-exports the app, use the shorter name, as its documentation does.
    let is_given_away =
        project.modules.iter().any(|it| it.is_named("__init__.py") && gives_away(it, &name, &callable))
            && name.contains('.');
    let name = if is_given_away { package } else { &name };
    Some((format!("{name}:{callable}"), evidence))
}

fn gives_away(package: &Module, module: &str, callable: &str) -> bool {
    let last = module.rsplit('.').next().unwrap_or(module);
    package.depth() == 1
        && package.bindings().iter().any(|it| match &it.what {
            What::Imported { module, original, name } => {
                module.trim_start_matches('.') == last && (original == "*" || name == callable)
            }
            _ => false,
        })
}
