//! `imperium logs` of an installed system: the journal of the units, also of workers that are started later.

use anyhow::ensure;
use tests::wait::until;

use super::super::container::Container;
use super::super::units::ready;
use super::proven;

pub(crate) async fn prove(container: &Container) -> anyhow::Result<()> {
    let all = container.run("imperium logs -n 5000")?;
    for words in ["emperord", "frontd", "worker is ready", "serving"] {
        ensure!(all.contains(words), "`imperium logs` shows no {words:?}");
    }
    let of_blog = container.run("imperium logs blog -n 5000")?;
    ensure!(of_blog.contains("blog-") && !of_blog.contains("shop-"), "the log of blog is {of_blog}");
    let unknown = container.run("! imperium logs nosuch 2>&1")?;
    ensure!(unknown.contains("there is no app `nosuch`: choose one of "), "{unknown}");
    follows_later_units(container).await?;
    proven(
        "imperium logs: of everything, of one app, of workers that are started meanwhile; not of an app that doesn't exist",
    );
    Ok(())
}

/// More workers than blog ever had, even during a reload: the last one's unit isn't in the journal.
const WORKERS: u16 = 12;

async fn follows_later_units(container: &Container) -> anyhow::Result<()> {
    let (last, unit) = (format!("blog-{WORKERS}"), format!("workerd@blog-{WORKERS}.service"));
    let before = container.run(&format!("journalctl -q -o cat -u {unit} || true"))?;
    ensure!(before.is_empty(), "{unit} is in the journal already: {before}");
    container.run(
        "systemd-run --unit follow-logs --property StandardOutput=file:/run/follow-logs \
         imperium logs blog --lines 1 --follow",
    )?;
    // journalctl finds out which units there are before it prints the first line.
    let followed = || container.run("cat /run/follow-logs || true");
    until("the log is followed", async || Ok((!followed()?.is_empty()).then_some(()))).await?;
    container.run(&format!("imperium scale blog {WORKERS}"))?;
    let is_of_last = |line: &str| line.contains(&last) && line.contains("serving");
    until("the new worker's lines are followed", async || {
        Ok(followed()?.lines().any(is_of_last).then_some(()))
    })
    .await?;
    container.run("systemctl stop follow-logs && imperium scale blog 2")?;
    ready(container, "blog", 2).await?;
    Ok(())
}
