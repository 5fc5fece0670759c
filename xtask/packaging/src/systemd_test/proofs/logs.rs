//! `imperium logs` of an installed system: the journal of the units, also of workers that are started later.

use anyhow::ensure;
use tests::wait::until;

use super::super::container::Container;
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
    // None of these workers is in the journal when it begins to follow.
    container.run(
        "journalctl --rotate && journalctl --vacuum-time=1s
         systemd-run --unit follow-logs --property StandardOutput=file:/run/follow-logs imperium logs blog --follow",
    )?;
    container.run("imperium reload blog")?;
    let followed = async || Ok(container.run("cat /run/follow-logs")?.contains("serving").then_some(()));
    until("the new workers' lines are followed", followed).await?;
    container.run("systemctl stop follow-logs")?;
    proven(
        "imperium logs: of everything, of one app, of workers that are started meanwhile; not of an app that doesn't exist",
    );
    Ok(())
}
