//! Has lintian look at the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use xtask::setup::Quietly as _;

/// Whether a file is a Debian package.
fn is_package(file: &Path) -> bool {
    file.extension().is_some_and(|it| it == "deb")
}

/// Fails with what lintian says, when some of it is an error.
pub(crate) fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut lintian = Command::new("lintian");
    // Root's is what CI builds as; it warns of that in general.
    lintian.args(["--allow-root", "--fail-on", "error", "--info"]);
    lintian.args(files.iter().filter(|file| is_package(file)));
    lintian.quietly().context("look at the packages with lintian; on Debian, install lintian")
}
