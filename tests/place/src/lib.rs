//! Where the things lie that the tests need and `cargo xtask test` makes.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::ensure;

/// Names the folder of the daemons' binaries.
pub const BINARIES: &str = "TEST_BINARIES";
/// Names the virtualenv of the apps.
pub const VENV: &str = "TEST_VENV";
/// Names the folder of what the apps keep: Django's database and its collected static files.
pub const KEPT: &str = "TEST_KEPT";

/// Where the things lie that the stack is made of.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of the daemons' binaries.
    pub binaries: PathBuf,
    /// The virtualenv of the apps.
    pub venv: PathBuf,
    /// What the apps keep.
    pub kept: PathBuf,
    /// The apps' source.
    pub apps: PathBuf,
}

impl Place {
    /// Under a target folder, where `cargo xtask` puts everything.
    #[must_use]
    pub fn in_target(target: &Path) -> Self {
        Self {
            binaries: target.join("debug"),
            venv: target.join("venv"),
            kept: target.join("apps"),
            apps: root().join("tests/apps"),
        }
    }

    /// As `cargo xtask test` tells by the environment, else in the workspace's target folder.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn of_tests() -> anyhow::Result<Self> {
        let usual = Self::in_target(&root().join("target"));
        let told = |variable: &str, usual: PathBuf| env::var_os(variable).map_or(usual, PathBuf::from);
        let place = Self {
            binaries: told(BINARIES, usual.binaries),
            venv: told(VENV, usual.venv),
            kept: told(KEPT, usual.kept),
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

    /// Django's database, with its tables and its administrator.
    #[must_use]
    pub fn django_database(&self) -> PathBuf {
        self.kept.join("db.sqlite3")
    }
}

/// The folder of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder)
}
