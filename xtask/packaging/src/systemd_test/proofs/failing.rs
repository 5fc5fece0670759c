//! Apps that can't start: each is reported clearly, isn't retried in a tight loop, and doesn't affect others.

use std::fs;

use anyhow::Context as _;
use tests::wait::until;

use super::super::container::Container;
use super::super::units;
use super::super::visitors::answers;
use super::proven;

pub(crate) async fn prove(container: &Container) -> anyhow::Result<()> {
    for (more, message) in [
        (
            "user = \"nobody-is-called-so\"\n",
            "`user` is nobody-is-called-so, which doesn't exist on this machine",
        ),
        ("env.IMPORT = \"fails\"\n", "ZeroDivisionError"),
    ] {
        deploy(container, more)?;
        let what = format!("the status says {message}");
        let mut last = String::new();
        let reported = until(&what, async || {
            last = container.run("imperium status || true")?;
            Ok(last.contains(message).then_some(()))
        });
        reported.await.context(last)?;
        answers(container, "blog").await?;
    }
    // Started, but removed before it was ready.
    deploy(container, "env.IMPORT = \"hangs\"\n")?;
    units::workers_are(container, "third", 2).await?;
    container.run("rm /etc/imperium/vassals/third.toml")?;
    units::workers_are(container, "third", 0).await?;
    proven("apps that cannot start: the status says why, and the others serve on");
    Ok(())
}

/// Writes another app's file atomically. The app uses shop's project.
fn deploy(container: &Container, more: &str) -> anyhow::Result<()> {
    let file = container.root().join("etc/imperium/vassals/third.toml");
    let text = format!(
        "domains = [\"third.example\"]\napp = \"app:app\"\n\
         directory = \"/srv/shop\"\npython = \"/srv/shop/.venv\"\n{more}"
    );
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &file)).context("write the app's file")
}
