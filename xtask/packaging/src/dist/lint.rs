//! Checks the packages with lintian.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use xtask::setup::Quietly as _;

fn is_package(file: &Path) -> bool {
    file.extension().is_some_and(|it| it == "deb")
}

/// Fails if lintian reports errors.
pub(crate) fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut lintian = Command::new("lintian");
    // CI builds as root, which lintian warns about.
    lintian.args(["--allow-root", "--fail-on", "error", "--info"]);
    lintian.args(files.iter().filter(|file| is_package(file)));
    lintian.quietly().context("look at the packages with lintian; on Debian, install lintian")
}
