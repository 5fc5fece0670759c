//! `kill -9` of each daemon: only the requests of the killed process are lost.

use std::fs;

use anyhow::ensure;
use tests::load::{Kind, Ledger};
use tests::wait::until;

use super::super::container::Container;
use super::super::units::{self, another_pid, main_pid};
use super::super::visitors::{CONNECTIONS, answers, ask_all, under_load, without_loss};
use super::proven;

pub(crate) async fn prove(container: &Container) -> anyhow::Result<()> {
    of_a_worker(container, Kind::Gets).await?;
    of_a_worker(container, Kind::Posts).await?;
    of_emperord(container).await?;
    of_one_front_server(container).await?;
    of_the_only_front_server(container).await?;
    of_a_front_server_that_cannot_start(container).await
}

fn kill(unit: &str) -> String {
    format!("kill -9 $(systemctl show -p MainPID --value {unit})")
}

async fn of_a_worker(container: &Container, kind: Kind) -> anyhow::Result<()> {
    let worker = units::ready(container, "blog", 2).await?.remove(0);
    let pid = main_pid(container, &worker)?;
    let ledger = under_load(container, kind, &kill(&worker)).await?;
    container.run(&format!("test ! -e /proc/{pid}"))?;
    let (sent, begun) = (ledger.sent, ledger.status(502));
    // A worker handles one request at a time. A GET is retried, a POST may not be.
    let most = if kind == Kind::Gets { 0 } else { 1 };
    ensure!(begun <= most && ledger.right + begun == sent, "kill -9 of a worker: {ledger:#?}");
    proven(&format!("kill -9 of a worker: {sent} {kind:?}, {begun} lost, which it had begun"));
    Ok(())
}

async fn of_emperord(container: &Container) -> anyhow::Result<()> {
    let before = main_pid(container, "emperord")?;
    let sent = without_loss(container, Kind::Both, &kill("emperord")).await?;
    another_pid(container, "emperord", before).await?;
    proven(&format!("kill -9 of emperord: {sent} requests, none lost"));
    Ok(())
}

/// Its connections break. New ones are handled by the other front server, and later by its replacement.
async fn of_one_front_server(container: &Container) -> anyhow::Result<()> {
    container.run("systemctl start frontd@2")?;
    let before = main_pid(container, "frontd@1")?;
    let ledger = under_load(container, Kind::Both, &kill("frontd@1")).await?;
    let Ledger { sent, right, lost, .. } = ledger;
    // Each line of the load has one open connection at a time, with at most one request.
    let most = 2 * u64::try_from(CONNECTIONS)?;
    ensure!(lost <= most && right + lost == sent, "kill -9 of frontd@1: {ledger:#?}");
    another_pid(container, "frontd@1", before).await?;
    let again = without_loss(container, Kind::Both, "true").await?;
    proven(&format!(
        "kill -9 of frontd@1: {sent} requests, {lost} lost, which its connections had under way; \
         after it {again}, none lost"
    ));
    Ok(())
}

/// Connections made before the replacement is ready wait in systemd's socket: none is refused.
async fn of_the_only_front_server(container: &Container) -> anyhow::Result<()> {
    container.run("systemctl stop frontd@2")?;
    let before = main_pid(container, "frontd@1")?;
    container.run(&kill("frontd@1"))?;
    ask_all(container, "blog").await?;
    another_pid(container, "frontd@1", before).await?;
    until("frontd@1 is ready", async || {
        let state = container.run("systemctl is-active frontd@1 || true")?;
        Ok((state == "active").then_some(()))
    })
    .await?;
    answers(container, "blog").await?;
    proven("kill -9 of the only frontd: the next connections are answered");
    Ok(())
}

/// More than systemd's default limit of attempts, after which it would close the ports.
const TRIES: u32 = 6;

async fn of_a_front_server_that_cannot_start(container: &Container) -> anyhow::Result<()> {
    let tries = || -> anyhow::Result<u32> {
        Ok(container.run("systemctl show -p NRestarts --value frontd@1")?.parse()?)
    };
    let (file, before) = (container.root().join("etc/imperium/frontd.toml"), tries()?);
    fs::write(&file, "shards = \"many\"\n")?;
    container.run(&kill("frontd@1"))?;
    until("frontd@1 was tried again and again", async || Ok((tries()? > before + TRIES).then_some(())))
        .await?;
    fs::remove_file(&file)?;
    ask_all(container, "blog").await?;
    proven(
        "a frontd that cannot start: the ports stay open, and once its file is fixed, who waits is answered",
    );
    Ok(())
}
