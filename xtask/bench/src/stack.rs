//! A running side.

mod caddy;
mod imperium;
mod nginx;
mod server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::join_all;
use tests::client::{Client, Protocol};
use tests::ports;
use tests::process::Process;
use tests::wait::until;
use tokio::time::timeout;

use self::caddy::Caddy;
use self::imperium::Imperium;
use self::nginx::Nginx;
use self::server::Serve;
use super::app::Scene;
use super::guard::Guard;
use super::side::{Server, Side};
use super::site::{HOST, Site};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A running stack. It is stopped on drop.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) scene: Scene,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) certificate: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Imperium(Imperium),
    /// A front server, and an app server behind it.
    Pair {
        front: Guard,
        back: Guard,
        folder: PathBuf,
    },
}

/// How uWSGI replaces workers. Imperium always does it in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// As its Emperor does when a vassal's file is touched.
    AllAtOnce,
    /// Chain reload.
    OneByOne,
}

/// The processes of a stack.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Those of the front server.
    pub(crate) front: Vec<Process>,
    /// The workers and their supervisor.
    pub(crate) back: Vec<Process>,
}

impl Stack {
    /// Starts it, and waits until it serves.
    pub(crate) async fn start(side: Side, scene: Scene, site: &Site) -> anyhow::Result<Self> {
        let folder = site.folder()?;
        let [http, https, admin] = ports::free()?;
        let running = match side {
            Side::Imperium => Running::Imperium(Imperium::start(site, scene, folder, [http, https, admin])?),
            Side::Nginx(server) => behind_nginx(server, site, scene, folder, [http, https])?,
            Side::Caddy => behind_caddy(site, scene, folder, [http, https])?,
        };
        let stack = Self { scene, http, https, certificate: site.certificate(), running };
        stack.greets().await?;
        if side == Side::Imperium || side == Side::UWSGI {
            // Other servers don't guarantee that an idle worker gets the next request.
            stack.all_answer(&BTreeSet::new()).await?;
        }
        Ok(stack)
    }

    /// The URL of a path.
    pub(crate) fn url(&self, protocol: Protocol, path: &str) -> String {
        let (scheme, address) = match protocol {
            Protocol::Plain => ("http", self.http),
            Protocol::Http1 | Protocol::Http2 => ("https", self.https),
        };
        format!("{scheme}://{HOST}:{}{path}", address.port())
    }

    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.certificate, HOST, self.http, Protocol::Plain)
    }

    /// Its current processes.
    pub(crate) fn processes(&self) -> Processes {
        match &self.running {
            Running::Imperium(imperium) => imperium.processes(),
            Running::Pair { front, back, .. } => {
                Processes { front: front.processes(), back: back.processes() }
            }
        }
    }

    /// Replaces the app's workers. Returns when that is complete or has started.
    pub(crate) async fn reload(&self, manner: Reload) -> anyhow::Result<()> {
        match &self.running {
            Running::Imperium(imperium) => imperium.reload().await,
            Running::Pair { back, folder, .. } => server::reload_uwsgi(back, folder, manner).await,
        }
    }

    /// Sets the number of workers, and waits until they are ready.
    pub(crate) async fn scale(&self, workers: u32) -> anyhow::Result<()> {
        match &self.running {
            Running::Imperium(imperium) => imperium.scale(workers).await,
            Running::Pair { .. } => bail!("only Imperium is scaled here"),
        }
    }

    /// Returns what its processes have logged so far.
    pub(crate) fn log(&self) -> String {
        match &self.running {
            Running::Imperium(imperium) => imperium.up.log(),
            Running::Pair { front, back, .. } => front.log() + &back.log(),
        }
    }

    /// Waits until as many processes as there should be have responded, none of which is in `old`, and
    /// returns them.
    pub(crate) async fn all_answer(&self, old: &BTreeSet<u32>) -> anyhow::Result<BTreeSet<u32>> {
        let mut seen = BTreeSet::new();
        let all = until("every worker answers", async || {
            self.check_running()?;
            seen.extend(self.pids().await?.into_iter().flatten().filter(|pid| !old.contains(pid)));
            Ok((seen.len() >= self.scene.workers as usize).then(|| seen.clone()))
        });
        let all = all.await;
        all.with_context(|| self.last_lines())
    }

    /// Sends as many concurrent requests for the pid as there are workers.
    pub(crate) async fn pids(&self) -> anyhow::Result<Vec<anyhow::Result<u32>>> {
        let client = self.client()?;
        let pid = async || {
            let answer =
                timeout(TIMEOUT, client.get("/pid?sleep=0.005")).await.context("ask for a pid")??;
            Ok(answer.expect(200)?.text().trim().parse()?)
        };
        Ok(join_all((0..self.scene.workers).map(|_| pid())).await)
    }

    async fn greets(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        let greets = until("the app greets", async || {
            self.check_running()?;
            let Ok(answer) = client.get("/").await else { return Ok(None) };
            Ok((answer.status == 200).then(|| answer.text()))
        });
        let page = greets.await.with_context(|| self.last_lines())?;
        ensure!(page.contains(self.scene.app.greeting()), "{:?} greets with {page}", self.scene.app);
        Ok(())
    }

    fn check_running(&self) -> anyhow::Result<()> {
        match &self.running {
            Running::Imperium(imperium) => imperium.up.check_running(),
            Running::Pair { front, back, .. } => front.check_running().and_then(|()| back.check_running()),
        }
    }

    fn last_lines(&self) -> String {
        let words = match &self.running {
            Running::Imperium(imperium) => imperium.up.last_lines(),
            Running::Pair { front, back, .. } => front.last_lines() + &back.last_lines(),
        };
        format!("the last words of its log:\n{words}\n")
    }
}

fn behind_nginx(
    server: Server,
    site: &Site,
    scene: Scene,
    folder: PathBuf,
    [http, https]: [SocketAddr; 2],
) -> anyhow::Result<Running> {
    let socket = folder.join("app.sock");
    let back = server::start(server, &Serve { site, scene, folder: &folder, socket: &socket })?;
    let upstream = server::upstream(server);
    let connections = scene.concurrency.unwrap_or_default();
    let nginx = Nginx { http, https, upstream, socket: &socket, connections };
    let front = nginx.start(site, &folder)?;
    Ok(Running::Pair { front, back, folder })
}

fn behind_caddy(
    site: &Site,
    scene: Scene,
    folder: PathBuf,
    [http, https]: [SocketAddr; 2],
) -> anyhow::Result<Running> {
    let socket = folder.join("app.sock");
    let back = server::start(Server::Uvicorn, &Serve { site, scene, folder: &folder, socket: &socket })?;
    let front = Caddy { http, https, socket: &socket }.start(site, &folder)?;
    Ok(Running::Pair { front, back, folder })
}
