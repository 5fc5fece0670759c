//! Installation while another server uses the ports, as in a migration.

use anyhow::ensure;
use tests::client::Protocol;
use tests::wait::until;

use super::super::container::Container;
use super::super::guide::{Chapter, at_home};
use super::super::visitors::client;
use super::proven;

pub(crate) async fn prove(container: &Container, moving: &Chapter) -> anyhow::Result<()> {
    let front = client(container, "blog", Protocol::Plain)?;
    container.run(
        "systemd-run --quiet --unit=other-http python3 -m http.server 80
         systemd-run --quiet --unit=other-https python3 -m http.server 443",
    )?;
    until("the other server answers", async || Ok(front.get("/").await.ok())).await?;
    let output = container.run(&at_home("apt install --yes ./imperium_*_amd64.deb 2>&1"))?;
    ensure!(output.contains("the ports 80 and 443 could not be taken"), "apt says {output}");
    container.run("systemctl is-active emperord && imperium status")?;
    until("frontd@1 has given up", async || {
        let state = container.run("systemctl is-active frontd@1 || true")?;
        Ok((state == "failed").then_some(()))
    })
    .await?;
    let restarts = container.run("systemctl show -p NRestarts --value frontd@1")?;
    ensure!(restarts == "0", "frontd@1 was started again {restarts} times, and might take the ports");
    container.run("systemctl stop other-http other-https")?;
    container.run(&moving.script())?;
    // After an installation, frontd holds requests until it gets the first routing table.
    until("frontd answers", async || Ok((front.get("/").await?.status == 404).then_some(()))).await?;
    proven("where another server has the ports, all else is installed; then the guide leads over to frontd");
    Ok(())
}
