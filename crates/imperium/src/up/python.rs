//! Chooses the Python for `up APP`: an activated virtualenv, or one nearby.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::project_folders;

/// Common names of virtualenvs.
const USUAL: [&str; 2] = [".venv", "venv"];

/// The chosen Python, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// None means `python3` in `PATH`.
    pub(crate) virtualenv: Option<PathBuf>,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Active,
    BesideApp,
    InFolder,
    OfProject,
    NoneFound,
}

impl Choice {
    /// `file` is the app's file, if it was given as one. `folder` is the working directory.
    pub(crate) fn new(file: Option<&Path>, folder: &Path) -> Self {
        let active = env::var_os("VIRTUAL_ENV").filter(|it| !it.is_empty()).map(PathBuf::from);
        Self::among(active, file, folder)
    }

    fn among(active: Option<PathBuf>, file: Option<&Path>, folder: &Path) -> Self {
        let beside = file.and_then(|it| folder.join(it).parent().map(Path::to_owned));
        let usual =
            |folder: &Path| USUAL.map(|name| folder.join(name)).into_iter().find(|it| is_virtualenv(it));
        if let Some(active) = active {
            return Self { virtualenv: Some(folder.join(active)), why: Why::Active };
        }
        if let Some(found) = beside.as_deref().and_then(usual) {
            return Self { virtualenv: Some(found), why: Why::BesideApp };
        }
        if let Some(found) = usual(folder) {
            return Self { virtualenv: Some(found), why: Why::InFolder };
        }
        let starts = [beside.as_deref(), Some(folder)].into_iter().flatten();
        match starts.flat_map(project_folders::above).find_map(|it| usual(&it)) {
            Some(found) => Self { virtualenv: Some(found), why: Why::OfProject },
            None => Self { virtualenv: None, why: Why::NoneFound },
        }
    }
}

/// Also true if its interpreter is missing, which is reported later.
fn is_virtualenv(folder: &Path) -> bool {
    folder.join("bin/python").symlink_metadata().is_ok()
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Active => "the active virtualenv",
            Why::BesideApp => "the virtualenv next to the app",
            Why::InFolder => "the virtualenv of this folder",
            Why::OfProject => "the virtualenv of the project",
            Why::NoneFound => "no virtualenv is active or nearby",
        };
        match &self.virtualenv {
            Some(folder) => write!(f, "{} ({why})", folder.display()),
            None => write!(f, "python3 of PATH ({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_active_virtualenv_comes_first_then_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let at = |it: &str| folder.path().join(it);
        let make = |it: &str| {
            fs::create_dir_all(at(it).join("bin")).unwrap();
            fs::write(at(it).join("bin/python"), "").unwrap();
        };
        let choose =
            |active: Option<PathBuf>| Choice::among(active, Some(Path::new("src/app.py")), folder.path());
        fs::create_dir(at("src")).unwrap();
        assert_eq!(choose(None), Choice { virtualenv: None, why: Why::NoneFound });
        make("venv");
        assert_eq!(choose(None), Choice { virtualenv: Some(at("venv")), why: Why::InFolder });
        make("src/venv");
        assert_eq!(choose(None), Choice { virtualenv: Some(at("src/venv")), why: Why::BesideApp });
        make("src/.venv");
        assert_eq!(choose(None).virtualenv, Some(at("src/.venv")));
        let active = choose(Some("/srv/active".into()));
        assert_eq!(active.to_string(), "/srv/active (the active virtualenv)");
        // Of a parent folder, if that belongs to the same project.
        let (deep, shop) = (at("shop/src/web"), at("shop/.venv"));
        fs::create_dir_all(&deep).unwrap();
        make("shop/.venv");
        assert_eq!(Choice::among(None, None, &deep), Choice { virtualenv: None, why: Why::NoneFound });
        fs::write(at("shop/pyproject.toml"), "").unwrap();
        for (file, folder) in [
            (None, &deep),
            (Some(Path::new("app.py")), &deep),
            (Some(Path::new("web/app.py")), &at("shop/src")),
        ] {
            let found = Choice::among(None, file, folder);
            assert_eq!(found, Choice { virtualenv: Some(shop.canonicalize().unwrap()), why: Why::OfProject });
        }
        // A module is imported from the working directory.
        assert_eq!(Choice::among(None, None, folder.path()).virtualenv, Some(at("venv")));
    }
}
