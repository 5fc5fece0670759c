//! Upgrades to a newer build of the package.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::wait::until;

use super::super::container::Container;
use super::super::guide::Chapter;
use super::super::server;
use super::super::units::{self, main_pid};
use super::super::visitors::{ANSWERS, client, load};
use super::proven;
use crate::dist::Built;

/// The build number of the upgrade.
const NEWER: u32 = 2;

pub(crate) async fn prove(container: &Container, built: &Built, chapter: &Chapter) -> anyhow::Result<()> {
    let before = version(container)?;
    let newer = server::put_package(container.root(), built, Some(NEWER))?;
    let load = load(container, Kind::Both)?;
    load.flows(ANSWERS).await?;
    beside_a_slow_request(container, &load, &chapter.script()).await?;
    load.flows(ANSWERS).await?;
    let ledger = load.finish().await?;
    ledger.all_right()?;
    all_is_new(container, &before, &newer).await?;
    proven(&format!(
        "the guide, \"{}\": all that ran is {newer} and no longer {before}; {} requests meanwhile, none lost",
        chapter.title, ledger.sent
    ));
    Ok(())
}

/// Runs a command while the only front server has to wait for a slow request. Others are answered meanwhile.
async fn beside_a_slow_request(container: &Container, load: &Load, done: &str) -> anyhow::Result<()> {
    let blog = client(container, "blog", Protocol::Http1)?;
    let release = container.root().join("srv/blog/release");
    let begun = || release.with_extension("begun").exists();
    let held = async { blog.get("/held?until=/srv/blog/release").await?.expect(200) };
    let done = async {
        until("the slow request has begun", async || Ok(begun().then_some(()))).await?;
        container.run_beside(done).await
    };
    let released = async {
        until("the front server drains", async || Ok(drains(container)?.then_some(()))).await?;
        load.flows(ANSWERS).await?;
        ensure!(drains(container)?, "the front server did not wait for the slow request");
        Ok(fs::write(&release, "")?)
    };
    let (answer, _, ()) = tokio::try_join!(held, done, released)?;
    ensure!(answer.text() == "released", "the slow request is answered {}", answer.text());
    Ok(())
}

fn drains(container: &Container) -> anyhow::Result<bool> {
    Ok(container.run("systemctl is-active frontd@1 || true")? == "deactivating")
}

async fn all_is_new(container: &Container, before: &str, newer: &str) -> anyhow::Result<()> {
    ensure!(version(container)? == newer, "{newer} is not installed");
    let daemons = ["emperord", "frontd@1"].map(str::to_owned).into_iter();
    for unit in daemons.chain(units::ready(container, "blog", 2).await?) {
        ensure!(runs_what_is_installed(container, &unit)?, "{unit} still runs {before}");
    }
    Ok(())
}

fn version(container: &Container) -> anyhow::Result<String> {
    container.run("dpkg-query --show --showformat='${Version}' imperium")
}

/// Checks that no replaced program or library is still mapped: those show up as deleted.
fn runs_what_is_installed(container: &Container, unit: &str) -> anyhow::Result<bool> {
    let maps = container.run(&format!("cat /proc/{}/maps", main_pid(container, unit)?))?;
    let ours: Vec<_> = maps.lines().filter(|line| line.contains("/usr/lib/imperium/")).collect();
    Ok(!ours.is_empty() && !ours.iter().any(|line| line.ends_with("(deleted)")))
}
