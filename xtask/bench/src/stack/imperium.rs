//! Runs `imperium up` with default settings except for its addresses and its certificate.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tests::vassal::Vassal;

use super::Processes;
use crate::app::Scene;
use crate::guard::Guard;
use crate::site::{HOST, Site};

/// A running `imperium up`.
#[derive(Debug)]
pub(super) struct Imperium {
    pub(super) up: Guard,
    program: PathBuf,
    root: PathBuf,
    app: &'static str,
}

impl Imperium {
    /// Starts it in a separate folder, with addresses for HTTP, HTTPS and probes.
    pub(super) fn start(
        site: &Site,
        scene: Scene,
        root: PathBuf,
        addresses: [SocketAddr; 3],
    ) -> anyhow::Result<Self> {
        let [http, https, admin] = addresses.map(|address| address.to_string());
        let certificates = site.certificates();
        let mut frontd =
            format!("admin = \"{admin}\"\n[tls]\ncertificates = \"{}\"\n", certificates.display());
        if let Some(concurrency) = scene.concurrency {
            // One address may have half of them.
            let _never = writeln!(frontd, "[limits]\nconnections = {}", 4 * concurrency);
        }
        write(&root.join("frontd.toml"), &frontd)?;
        let vassals = root.join("vassals");
        fs::create_dir(&vassals).with_context(|| format!("create {}", vassals.display()))?;
        let app = scene.app.name();
        write(&vassals.join(format!("{app}.toml")), &vassal(site, scene).text())?;
        let program = site.place.binaries.join("imperium");
        let mut up = Command::new(&program);
        up.arg("up").arg("--root").arg(&root).args(["--http", &http, "--https", &https]);
        Ok(Self { up: Guard::start("imperium", &up, &root)?, program, root, app })
    }

    /// The processes of frontd, emperord and the workers. `imperium up` itself isn't included: on a server,
    /// systemd replaces it, and the processes that start nginx and uWSGI here don't count either.
    pub(super) fn processes(&self) -> Processes {
        let daemons = self.up.processes().into_iter().filter(|it| it.command != "imperium");
        let (front, back) = daemons.partition(|it| it.command == "frontd");
        Processes { front, back }
    }

    pub(super) async fn reload(&self) -> anyhow::Result<()> {
        self.command("reload", None).await
    }

    /// Sets the number of workers, and waits until they are ready.
    pub(super) async fn scale(&self, workers: u32) -> anyhow::Result<()> {
        self.command("scale", Some(&workers.to_string())).await
    }

    async fn command(&self, name: &str, argument: Option<&str>) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg(name).arg("--root").arg(&self.root).arg(self.app).args(argument).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("run imperium {name}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "imperium {name} ended with {}: {stderr}", output.status);
        Ok(())
    }
}

fn vassal(site: &Site, scene: Scene) -> Vassal {
    let Scene { app, workers, concurrency } = scene;
    let vassal = Vassal::new(app.name(), &app.directory(&site.place), app.target());
    let vassal = vassal.domain(HOST).python(&site.place.venv).workers(workers);
    let vassal = vassal.folder("/static/", &site.files());
    let vassal = if app.is_asgi() { vassal.key("interface = \"asgi\"") } else { vassal };
    let vassal = match concurrency {
        Some(concurrency) => vassal.key(&format!("concurrency = {concurrency}")),
        None => vassal,
    };
    let env = app.env(&site.place).into_iter();
    env.fold(vassal, |vassal, (name, value)| vassal.env(name, &value.display().to_string()))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
