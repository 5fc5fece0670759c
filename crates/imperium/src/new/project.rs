//! Reads the files of a project that can tell what its app is, within limits.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::names::{Binding, What, bindings};
use super::source::{Statement, statements};

/// How many levels of folders are searched, including the project's own.
const MAX_DEPTH: usize = 4;
/// How many folders are searched, the nearest first.
const MAX_FOLDERS: usize = 1000;
/// How many files are read, and how much of each.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 256 * 1024;

/// Folders that don't contain an app to be served.
const ASIDE: [&str; 14] = [
    "tests",
    "test",
    "testing",
    "docs",
    "doc",
    "examples",
    "migrations",
    "node_modules",
    "site-packages",
    "__pycache__",
    "scripts",
    "benchmarks",
    "build",
    "dist",
];

/// A Python file.
#[derive(Debug)]
pub(crate) struct Module {
    /// An absolute path.
    pub(crate) path: PathBuf,
    /// The path relative to the project's folder, for messages.
    pub(crate) shown: PathBuf,
    text: String,
    statements: OnceCell<Vec<Statement>>,
    bindings: OnceCell<Vec<Binding>>,
}

impl Module {
    pub(crate) fn new(path: PathBuf, shown: PathBuf, text: String) -> Self {
        Self { path, shown, text, statements: OnceCell::new(), bindings: OnceCell::new() }
    }

    /// Whether it imports a package, or something from there.
    pub(crate) fn imports(&self, package: &str) -> bool {
        let package = package.to_lowercase();
        let is_it = |module: &str| module.split('.').next() == Some(&package);
        self.bindings().iter().any(|it| match &it.what {
            What::Imported { module, .. } | What::Module { module } => is_it(module),
            _ => false,
        })
    }

    /// Reads a file. None if it can't be read.
    pub(crate) fn read(path: PathBuf, project: &Path) -> Option<Self> {
        let text = read(&path)?;
        let shown = path.strip_prefix(project).unwrap_or(&path).to_owned();
        Some(Self::new(path, shown, text))
    }

    /// All statements, at any depth.
    pub(crate) fn statements(&self) -> &[Statement] {
        self.statements.get_or_init(|| statements(&self.text))
    }

    /// The names that it defines when it is imported.
    pub(crate) fn bindings(&self) -> &[Binding] {
        self.bindings.get_or_init(|| bindings(self.statements()))
    }

    /// The text of a line, shortened for a message.
    pub(crate) fn line(&self, number: usize) -> String {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim().chars().take(80).collect()
    }

    /// The number of components of its path within the project.
    pub(crate) fn depth(&self) -> usize {
        self.shown.components().count()
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.path.file_name().is_some_and(|it| it == name)
    }
}

/// The relevant files of a project.
#[derive(Debug, Default)]
pub(crate) struct Project {
    /// An absolute path.
    pub(crate) folder: PathBuf,
    /// Nearest to the root first.
    pub(crate) modules: Vec<Module>,
    /// Paths and texts of `.ini` files, nearest to the root first.
    pub(crate) settings: Vec<(PathBuf, String)>,
}

impl Project {
    /// Reads a folder, whose path is absolute, and its subfolders.
    pub(crate) fn look(folder: &Path) -> Self {
        let mut project = Self { folder: folder.to_owned(), ..Self::default() };
        let mut level = vec![folder.to_owned()];
        let mut left = MAX_FOLDERS;
        for _ in 0..MAX_DEPTH {
            let mut below = Vec::new();
            level.truncate(left);
            left -= level.len();
            for folder in level {
                project.look_into(&folder, &mut below);
            }
            level = below;
        }
        project
    }

    pub(crate) fn module(&self, path: &Path) -> Option<&Module> {
        self.modules.iter().find(|it| it.path == path)
    }

    /// The path relative to the project's folder, for messages.
    pub(crate) fn shown<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.folder).unwrap_or(path)
    }

    fn look_into(&mut self, folder: &Path, below: &mut Vec<PathBuf>) {
        for name in names(folder) {
            let path = folder.join(&name);
            let end = Path::new(&name).extension().and_then(|it| it.to_str());
            if path.is_dir() {
                below.extend((!is_aside(&path, &name)).then_some(path));
            } else if !path.is_file() || self.modules.len() + self.settings.len() >= MAX_FILES {
            } else if matches!(end, Some("py" | "wsgi")) && !is_of_tests(&name) {
                self.modules.extend(Module::read(path, &self.folder));
            } else if end == Some("ini") {
                self.settings.extend(read(&path).map(|text| (path, text)));
            }
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

/// Whether a file belongs to tests or to a build. Tests often define apps of their own.
fn is_of_tests(name: &str) -> bool {
    let stem = name.trim_end_matches(".py");
    matches!(stem, "test" | "tests" | "conftest" | "setup" | "noxfile" | "fabfile")
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
}

/// Reads the beginning of a file. None if it can't be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_files_come_first_and_tests_and_virtualenvs_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "zoo.py",
            "shop/wsgi.py",
            "shop/tests.py",
            "shop/deep/x.py",
            "shop/deep/er/y.py",
            "shop/deep/er/st/z.py",
            "site.wsgi",
            "setup.py",
            "test_zoo.py",
            "tests/app.py",
            ".git/a.py",
            "env/pyvenv.cfg",
            "env/app.py",
            "notes.txt",
            "production.ini",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let project = Project::look(folder.path());
        let modules: Vec<_> = project.modules.iter().map(|it| it.shown.to_str().unwrap()).collect();
        assert_eq!(modules, ["site.wsgi", "zoo.py", "shop/wsgi.py", "shop/deep/x.py", "shop/deep/er/y.py"]);
        let settings: Vec<_> = project.settings.iter().map(|(path, _)| project.shown(path)).collect();
        assert_eq!(settings, [Path::new("production.ini")]);
    }

    #[test]
    fn the_number_of_folders_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=1000 {
            fs::create_dir(folder.path().join(format!("{number:04}"))).unwrap();
        }
        for number in ["0000", "1000"] {
            fs::write(folder.path().join(number).join("app.py"), "").unwrap();
        }
        let project = Project::look(folder.path());
        let modules: Vec<_> = project.modules.iter().map(|it| it.shown.to_str().unwrap()).collect();
        assert_eq!(modules, ["0000/app.py"]);
    }
}
