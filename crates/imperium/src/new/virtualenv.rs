//! Finds a project's virtualenv, and checks that it has what the app needs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::project::read;
use crate::project_folders;

/// Common names of it in the project's folder.
const USUAL: [&str; 4] = [".venv", "venv", "env", ".virtualenv"];
/// The oldest Python version that can run a worker (see docs/python.md).
const OLDEST: (u32, u32) = (3, 10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Virtualenv {
    pub(crate) path: PathBuf,
    /// Such as `3.11.2`. Empty if unknown.
    pub(crate) version: String,
}

/// Returns the first one in `folders`, or in a parent that belongs to the same project, otherwise the activated one.
pub(crate) fn find(folders: &[&Path]) -> Option<Virtualenv> {
    let above = folders.iter().flat_map(|it| project_folders::above(it));
    let folders = folders.iter().map(|it| it.to_path_buf()).chain(above);
    let usual = folders.flat_map(|folder| USUAL.map(|name| folder.join(name)));
    let active = env::var_os("VIRTUAL_ENV").filter(|it| !it.is_empty()).map(PathBuf::from);
    usual.chain(active).find_map(|it| Virtualenv::at(&it))
}

/// Reads `version` as written by venv, or `version_info` as written by uv and virtualenv.
fn version(config: &str) -> Option<String> {
    let mut settings = config.lines().filter_map(|line| line.split_once('='));
    let (_, version) = settings.find(|(key, _)| matches!(key.trim(), "version" | "version_info"))?;
    Some(version.trim().to_owned())
}

impl Virtualenv {
    /// The virtualenv in a folder. None if there is none.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let config = read(&path.join("pyvenv.cfg")).unwrap_or_default();
        let is_there = path.join("bin/python").exists();
        is_there.then(|| Self { version: version(&config).unwrap_or_default(), path: path.to_owned() })
    }

    /// Returns why the app won't run in it, as far as that can be seen: its Python is too old, or the
    /// framework is missing.
    pub(crate) fn lacks(&self, framework: &str) -> Option<String> {
        let mut numbers = self.version.split('.').map(str::parse);
        if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next())
            && (major, minor) < OLDEST
        {
            let (major, minor) = OLDEST;
            let (path, version) = (self.path.display(), &self.version);
            return Some(format!(
                "{path} has Python {version}, but {major}.{minor} or newer is required: recreate it with a newer version"
            ));
        }
        let (path, package) = (self.path.display(), framework.to_lowercase());
        let imported = if framework == "web.py" { "web" } else { &package };
        let is_missing = !matches!(framework, "WSGI" | "ASGI") && !self.has(imported);
        is_missing.then(|| {
            let install = self.install(&package);
            format!(
                "{framework} isn't installed in {path}: run `{install}`, or follow the project's instructions"
            )
        })
    }

    /// The command that installs something in it. uv creates virtualenvs without pip.
    pub(crate) fn install(&self, what: &str) -> String {
        let path = self.path.display();
        let config = read(&self.path.join("pyvenv.cfg")).unwrap_or_default();
        let by_uv = config.lines().any(|it| it.split_once('=').is_some_and(|(key, _)| key.trim() == "uv"));
        match by_uv && !self.path.join("bin/pip").exists() {
            true => format!("uv pip install --python {path} {what}"),
            false => format!("{path}/bin/pip install {what}"),
        }
    }

    /// Its `site-packages` folders.
    pub(crate) fn site_packages(&self) -> Vec<PathBuf> {
        let lib = fs::read_dir(self.path.join("lib")).into_iter().flatten().flatten();
        lib.map(|it| it.path().join("site-packages")).filter(|it| it.is_dir()).collect()
    }

    /// Whether a distribution is installed in it. Also true if it may be installed elsewhere.
    pub(crate) fn has_distribution(&self, name: &str) -> bool {
        let normal = |it: &str| it.to_lowercase().replace(['-', '.'], "_");
        let is_it = |file: &str| {
            let info = file.strip_suffix(".dist-info").or_else(|| file.strip_suffix(".egg-info"));
            let link = file.strip_suffix(".egg-link");
            let named = info.and_then(|it| it.split('-').next()).or(link);
            named.is_some_and(|it| normal(it) == normal(name))
        };
        let has = |packages: &PathBuf| {
            let mut entries = fs::read_dir(packages).into_iter().flatten().flatten();
            entries.any(|it| it.file_name().to_str().is_some_and(is_it))
        };
        let packages = self.site_packages();
        self.sees_the_systems() || packages.is_empty() || packages.iter().any(has)
    }

    /// Whether it has a package. Also true if packages may be elsewhere.
    fn has(&self, package: &str) -> bool {
        let mut packages = self.site_packages().into_iter().peekable();
        let is_there = |packages: PathBuf| {
            packages.join(package).exists() || packages.join(package).with_extension("py").exists()
        };
        self.sees_the_systems() || packages.peek().is_none() || packages.any(is_there)
    }

    fn sees_the_systems(&self) -> bool {
        let config = read(&self.path.join("pyvenv.cfg")).unwrap_or_default();
        config.lines().any(|it| it.replace(' ', "") == "include-system-site-packages=true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let venv = folder.path().join("venv");
        fs::create_dir_all(venv.join("bin")).unwrap();
        fs::create_dir_all(venv.join("lib/python3.11/site-packages/flask")).unwrap();
        fs::write(venv.join("bin/python"), "").unwrap();
        let mut found = find(&[folder.path()]).unwrap();
        assert_eq!(found, Virtualenv { path: venv.clone(), version: String::new() });
        assert_eq!(found.lacks("Flask"), None);
        let (shown, problem) = (venv.display(), found.lacks("Django").unwrap());
        assert!(
            problem.starts_with(&format!(
                "Django isn't installed in {shown}: run `{shown}/bin/pip install django`"
            )),
            "{problem}"
        );
        fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin\nuv = 0.9.5\nversion_info = 3.12.1\n").unwrap();
        let problem = find(&[folder.path()]).unwrap().lacks("Django").unwrap();
        assert!(problem.contains(&format!("`uv pip install --python {shown} django`")), "{problem}");
        fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin\nversion = 3.9.2\n").unwrap();
        found = find(&[folder.path()]).unwrap();
        assert!(found.lacks("Flask").unwrap().contains("has Python 3.9.2, but 3.10 or newer is required"));
        fs::write(venv.join("pyvenv.cfg"), "version_info = 3.12.1\ninclude-system-site-packages = true\n")
            .unwrap();
        assert_eq!(find(&[folder.path()]).unwrap().lacks("Django"), None);
    }
}
