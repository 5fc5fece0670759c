//! The package's newer build takes the place of what runs.

use anyhow::ensure;

use super::super::container::Container;
use super::super::guide::Chapter;
use super::super::server;
use super::super::units::{self, main_pid};
use super::{followed, said};
use crate::dist::Built;

/// The build that comes after the one that is installed.
const NEWER: u32 = 2;

pub(crate) async fn prove(container: &Container, built: &Built, chapter: &Chapter) -> anyhow::Result<()> {
    let before = version(container)?;
    let newer = server::put_package(container.root(), built, Some(NEWER))?;
    followed(container, chapter).await?;
    ensure!(version(container)? == newer, "{newer} is not installed");
    units::workers_are(container, "blog", 2).await?;
    let daemons = ["emperord", "frontd@1"].map(str::to_owned).into_iter();
    for unit in daemons.chain(units::workers(container, "blog")?) {
        ensure!(runs_what_is_installed(container, &unit)?, "{unit} still runs {before}");
    }
    said(&format!("an upgrade from {before} to {newer} replaced all that ran"));
    Ok(())
}

fn version(container: &Container) -> anyhow::Result<String> {
    container.run("dpkg-query --show --showformat='${Version}' imperium")
}

/// A program or a library that was replaced is mapped as one that was deleted.
fn runs_what_is_installed(container: &Container, unit: &str) -> anyhow::Result<bool> {
    let maps = container.run(&format!("cat /proc/{}/maps", main_pid(container, unit)?))?;
    let is_ours = |line: &&str| line.contains("/usr/bin/") || line.contains("/usr/lib/imperium/");
    let ours: Vec<_> = maps.lines().filter(is_ours).collect();
    Ok(!ours.is_empty() && !ours.iter().any(|line| line.ends_with("(deleted)")))
}
