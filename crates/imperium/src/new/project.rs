//! The Python files of a project's folder, within bounds.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// How far below the folder.
const MAX_DEPTH: usize = 3;
/// How many files are read, and how much of each: what makes an app stands near the top of few files.
const MAX_FILES: usize = 500;
const MAX_BYTES: u64 = 256 * 1024;

/// Folders where no app is that is meant to be served.
const ASIDE: [&str; 9] =
    ["tests", "test", "testing", "docs", "examples", "migrations", "node_modules", "__pycache__", "scripts"];

/// A Python file.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// From the folder that it is imported from.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The Python files of a folder and of those in it, by path; what is near comes first.
pub(crate) fn modules(directory: &Path) -> Vec<Module> {
    let mut modules = Vec::new();
    let mut level = vec![PathBuf::new()];
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for folder in level {
            look(directory, &folder, &mut modules, &mut below);
        }
        level = below;
    }
    modules
}

fn look(directory: &Path, folder: &Path, modules: &mut Vec<Module>, below: &mut Vec<PathBuf>) {
    for name in names(&directory.join(folder)) {
        let path = folder.join(&name);
        let full = directory.join(&path);
        if full.is_dir() && !is_aside(&full, &name) {
            below.push(path);
        } else if full.is_file() && name.ends_with(".py") && modules.len() < MAX_FILES {
            modules.extend(read(&full).map(|text| Module { path, text }));
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|it| it.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn is_aside(folder: &Path, name: &str) -> bool {
    ASIDE.contains(&name) || folder.join("pyvenv.cfg").exists()
}

/// The beginning of a file; None for what cannot be read, or is no text.
pub(crate) fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// As `import` names it: `shop/site.py` is `shop.site`. None where a name is no Python name.
pub(crate) fn module_name(path: &Path) -> Option<String> {
    let path = path.with_extension("");
    let mut names: Vec<_> = path.iter().map(|it| it.to_str()).collect::<Option<_>>()?;
    if names.len() > 1 && names.last() == Some(&"__init__") {
        names.pop();
    }
    let name = names.join(".");
    let is_module = vassal::App::parse(&name).is_ok_and(|it| matches!(it.target, vassal::Target::Module(_)));
    is_module.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_files_first_and_none_of_tests_or_virtualenvs() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "zoo.py",
            "shop/wsgi.py",
            "shop/deep/x.py",
            "shop/deep/er/y.py",
            "tests/app.py",
            ".git/a.py",
            "env/pyvenv.cfg",
            "env/app.py",
            "notes.txt",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let paths: Vec<_> = modules(folder.path()).into_iter().map(|it| it.path).collect();
        assert_eq!(paths, ["zoo.py", "shop/wsgi.py", "shop/deep/x.py"].map(PathBuf::from));
    }

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
