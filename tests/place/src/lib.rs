//! Locates the files that the tests need and `cargo xtask test` creates.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::ensure;

/// The variable that names the folder of the daemons' binaries.
pub const BINARIES: &str = "TEST_BINARIES";
/// The variable that names the apps' virtualenv.
pub const VENV: &str = "TEST_VENV";
/// The variable that names the folder of the apps' data: Django's database and its collected static files.
pub const KEPT: &str = "TEST_KEPT";

/// The paths of what a stack needs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of the daemons' binaries.
    pub binaries: PathBuf,
    /// The apps' virtualenv.
    pub venv: PathBuf,
    /// The apps' data.
    pub kept: PathBuf,
    /// The apps' source.
    pub apps: PathBuf,
}

impl Place {
    /// The paths below a target folder, as created by `cargo xtask`.
    #[must_use]
    pub fn in_target(target: &Path) -> Self {
        Self {
            binaries: target.join("debug"),
            venv: target.join("venv"),
            kept: target.join("apps"),
            apps: root().join("tests/apps"),
        }
    }

    /// The paths in the environment variables that `cargo xtask test` sets, otherwise in the workspace's
    /// target folder.
    ///
    /// # Errors
    /// If one of them doesn't exist.
    pub fn of_tests() -> anyhow::Result<Self> {
        let usual = Self::in_target(&root().join("target"));
        let path_in = |variable: &str, usual: PathBuf| env::var_os(variable).map_or(usual, PathBuf::from);
        let place = Self {
            binaries: path_in(BINARIES, usual.binaries),
            venv: path_in(VENV, usual.venv),
            kept: path_in(KEPT, usual.kept),
            apps: usual.apps,
        };
        for path in [&place.binaries.join("imperium"), &place.venv, &place.kept] {
            ensure!(path.exists(), "find {}: run `cargo xtask test`, which makes it", path.display());
        }
        Ok(place)
    }

    /// Django's collected static files.
    #[must_use]
    pub fn django_static(&self) -> PathBuf {
        self.kept.join("static")
    }

    /// Django's database, with its tables and an administrator.
    #[must_use]
    pub fn django_database(&self) -> PathBuf {
        self.kept.join("db.sqlite3")
    }
}

/// The root folder of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder)
}
