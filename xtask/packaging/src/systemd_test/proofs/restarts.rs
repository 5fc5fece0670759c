//! Restarts each service under load.

use anyhow::{Context as _, ensure};
use tests::load::Kind;

use super::super::container::Container;
use super::super::units::{self, main_pid};
use super::super::visitors::without_loss;
use super::proven;

pub(crate) async fn prove(container: &Container) -> anyhow::Result<()> {
    container.run("systemctl start frontd@2")?;
    let workers = units::ready(container, "blog", 2).await?;
    for unit in ["emperord", "frontd@1", "frontd@2"].into_iter().chain(workers.iter().map(String::as_str)) {
        let before = main_pid(container, unit)?;
        under_load(container, &format!("systemctl restart {unit}")).await?;
        ensure!(![0, before].contains(&main_pid(container, unit)?), "{unit} was not restarted");
    }
    units::ready(container, "blog", 2).await?;
    container.run("systemctl stop frontd@2")?;
    under_load(container, "systemctl restart frontd@1").await.context("the only front server")?;
    under_load(container, "systemctl reload frontd@1").await
}

async fn under_load(container: &Container, command: &str) -> anyhow::Result<()> {
    let requests = without_loss(container, Kind::Both, command).await?;
    proven(&format!("{command}: {requests} requests, none lost"));
    Ok(())
}
