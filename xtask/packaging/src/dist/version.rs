//! The version of the release, and the timestamp of all its files.

use std::env;
use std::process::Command;

use anyhow::Context as _;

/// See <https://reproducible-builds.org/specs/source-date-epoch/>.
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The version of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Such as `0.1.0`, or `0.1.0+2` for a later build.
    pub(crate) text: String,
    /// Unix time in seconds.
    pub(crate) epoch: u64,
}

impl Version {
    /// The version of the workspace, and the time in `SOURCE_DATE_EPOCH`, or of the last commit.
    pub(crate) fn new(build: Option<u32>) -> anyhow::Result<Self> {
        let version = env!("CARGO_PKG_VERSION");
        let text = build.map_or_else(|| version.to_owned(), |build| format!("{version}+{build}"));
        Ok(Self { text, epoch: epoch()? })
    }
}

fn epoch() -> anyhow::Result<u64> {
    let text = match env::var(SOURCE_DATE_EPOCH) {
        Ok(text) => text,
        Err(_) => last_commit()?,
    };
    text.trim().parse().with_context(|| format!("read the time `{}`, which must be seconds", text.trim()))
}

fn last_commit() -> anyhow::Result<String> {
    let hint = "ask git for the time of the last commit; without git, set SOURCE_DATE_EPOCH";
    let mut git = Command::new("git");
    let output = git.args(["log", "-1", "--format=%ct"]).current_dir(xtask::root()).output().context(hint)?;
    anyhow::ensure!(output.status.success(), "{hint}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
