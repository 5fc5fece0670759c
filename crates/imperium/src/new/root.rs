//! Finds out what name a module is imported by, and from which folder, which becomes `directory`.

use std::path::{Path, PathBuf};

use super::names::What;
use super::project::Module;
use super::source::{is_name, strings};

/// How deep packages may be nested.
const MAX_PACKAGES: usize = 10;

/// Modules that a worker imports before the app: an app of this name would never be found.
const TAKEN: [&str; 40] = [
    "abc",
    "ast",
    "atexit",
    "base64",
    "bisect",
    "calendar",
    "code",
    "codecs",
    "collections",
    "contextlib",
    "copy",
    "datetime",
    "email",
    "enum",
    "functools",
    "gc",
    "hashlib",
    "http",
    "importlib",
    "inspect",
    "io",
    "json",
    "linecache",
    "logging",
    "operator",
    "os",
    "random",
    "re",
    "select",
    "signal",
    "site",
    "socket",
    "stat",
    "string",
    "sys",
    "threading",
    "time",
    "token",
    "types",
    "typing",
];

const FRAMEWORKS: [&str; 13] = [
    "blacksheep",
    "bottle",
    "django",
    "falcon",
    "fastapi",
    "flask",
    "litestar",
    "pyramid",
    "quart",
    "sanic",
    "starlette",
    "webob",
    "werkzeug",
];

/// How a worker imports a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The value for `directory`.
    pub(crate) directory: PathBuf,
    /// The dotted name, or the path of a file that can't be imported by name.
    pub(crate) target: String,
    /// Why it is the path of a file. Empty if it isn't.
    pub(crate) by_path: &'static str,
}

/// Returns where `module` is imported from.
pub(crate) fn place(module: &Module) -> Place {
    let folder = module.path.parent().unwrap_or(Path::new("/"));
    place_in(module, &root(module, folder))
}

/// Returns how to import it if that folder comes first in `sys.path`.
pub(crate) fn place_in(module: &Module, directory: &Path) -> Place {
    let path = module.path.strip_prefix(directory).unwrap_or(&module.path);
    let by_path = |by_path, directory: &Path, path: &Path| Place {
        directory: directory.to_owned(),
        target: path.display().to_string(),
        by_path,
    };
    if path.extension().is_some_and(|it| it != "py") {
        let shown = path.display().to_string();
        let is_module = directory.join(shown.replace('.', "/")).with_extension("py").exists();
        let path = if is_module { Path::new("./").join(path) } else { path.to_owned() };
        return by_path("not a module, so it is loaded by its path", directory, &path);
    }
    let Some(name) = module_name(path) else {
        let (folder, file) = (module.path.parent(), module.path.file_name());
        let (folder, file) = folder.zip(file).unwrap_or((directory, path.as_os_str()));
        return by_path("not a valid module name, so it is loaded by its path", folder, Path::new(file));
    };
    if module.path.with_extension("").join("__init__.py").exists() {
        return by_path("a package has the same name, so it is loaded by its path", directory, path);
    }
    if TAKEN.contains(&name.as_str()) {
        return by_path("Python has a module of the same name, so it is loaded by its path", directory, path);
    }
    Place { directory: directory.to_owned(), target: name, by_path: "" }
}

/// The folder from which most of the module's imports can be found. If there are several, the nearest one
/// that isn't a package.
fn root(module: &Module, folder: &Path) -> PathBuf {
    let usual = outside_of_packages(folder);
    let imports = imports(module);
    let is_relative = imports.iter().any(String::is_empty);
    let mut roots: Vec<_> = folder.ancestors().take(MAX_PACKAGES).collect();
    // Folders above the project don't count, unless the project is inside a package.
    roots.retain(|it| it.starts_with(module_project(module)) || it.starts_with(&usual));
    if is_relative {
        roots.retain(|it| *it != folder);
    }
    let score = |root: &Path| imports.iter().filter(|name| has(root, name)).count();
    let best = roots.iter().map(|it| score(it)).max().unwrap_or(0);
    let usual_is_best = roots.contains(&usual.as_path()) && score(&usual) == best;
    let nearest = roots.iter().find(|it| score(it) == best);
    match nearest {
        Some(nearest) if !usual_is_best => nearest.to_path_buf(),
        _ => usual,
    }
}

/// The project's folder, which `shown` is relative to.
fn module_project(module: &Module) -> &Path {
    module.path.ancestors().nth(module.depth()).unwrap_or(Path::new("/"))
}

/// The nearest parent folder that isn't a package.
fn outside_of_packages(folder: &Path) -> PathBuf {
    let is_package = |it: &&Path| {
        it.join("__init__.py").is_file() && it.file_name().and_then(|it| it.to_str()).is_some_and(is_name)
    };
    let packages = folder.ancestors().take_while(is_package).take(MAX_PACKAGES).count();
    folder.ancestors().nth(packages).unwrap_or(folder).to_owned()
}

/// The top-level names of all imports. Relative imports are empty strings.
fn imports(module: &Module) -> Vec<String> {
    let mut found = Vec::new();
    for binding in module.bindings() {
        match &binding.what {
            What::Imported { module, .. } | What::Module { module } => {
                found.push(module.split('.').next().unwrap_or_default().to_owned());
            }
            What::Other { text } if text.contains("DJANGO_SETTINGS_MODULE") => {
                let named = strings(text).last().and_then(|it| it.split('.').next());
                found.extend(named.map(str::to_owned));
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    // A folder with a framework's name is hardly the framework itself.
    found.retain(|it| !FRAMEWORKS.contains(&it.as_str()));
    found
}

fn has(root: &Path, name: &str) -> bool {
    let path = root.join(name);
    !name.is_empty() && (path.with_extension("py").is_file() || holds_modules(&path))
}

fn holds_modules(folder: &Path) -> bool {
    let mut entries = folder.read_dir().into_iter().flatten().flatten();
    entries.any(|it| it.path().extension().is_some_and(|it| it == "py"))
}

/// Returns the dotted name: `shop/site.py` is `shop.site`. None if a part isn't a Python identifier.
pub(crate) fn module_name(path: &Path) -> Option<String> {
    let path = path.with_extension("");
    let mut names: Vec<_> = path.iter().map(|it| it.to_str()).collect::<Option<_>>()?;
    if names.len() > 1 && names.last() == Some(&"__init__") {
        names.pop();
    }
    names.iter().all(|it| is_name(it)).then(|| names.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        for (path, expected) in [
            ("app.py", Some("app")),
            ("shop/site.py", Some("shop.site")),
            ("shop/__init__.py", Some("shop")),
            ("my-app.py", None),
        ] {
            assert_eq!(module_name(Path::new(path)).as_deref(), expected, "{path}");
        }
    }
}
