//! The other app servers, configured as their documentation recommends for several processes behind nginx.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tests::wait::until;

use super::cases::{Reload, Scene};
use super::guard::Guard;
use super::nginx::Upstream;
use super::site::Site;

/// uWSGI's listen queue is as long as the kernel allows, up to this.
const QUEUE: u32 = 1024;

/// An app server behind nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Uwsgi,
    Gunicorn,
    Granian,
}

/// What a server serves, and where.
#[derive(Debug)]
pub(crate) struct Serve<'a> {
    pub(crate) site: &'a Site,
    pub(crate) scene: Scene,
    /// The folder for its files.
    pub(crate) folder: &'a Path,
    /// The path of its socket.
    pub(crate) socket: &'a Path,
}

impl Server {
    pub(crate) fn start(self, serve: &Serve<'_>) -> anyhow::Result<Guard> {
        let mut command = match self {
            Self::Uwsgi => uwsgi(serve)?,
            Self::Gunicorn => gunicorn(serve),
            Self::Granian => granian(serve),
        };
        let Serve { site, scene, folder, .. } = serve;
        command.current_dir(scene.app.directory(&site.place)).envs(scene.app.env(&site.place));
        Guard::start(self.program(), &command, folder)
    }

    /// The name of its program in the virtualenv.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Uwsgi => "uwsgi",
            Self::Gunicorn => "gunicorn",
            Self::Granian => "granian",
        }
    }

    /// The measured version on PyPI.
    pub(crate) fn requirement(self) -> &'static str {
        match self {
            Self::Uwsgi => "uWSGI==2.0.31",
            Self::Gunicorn => "gunicorn==27.0.1",
            Self::Granian => "granian==2.8.7",
        }
    }

    /// The protocol between nginx and the server.
    pub(crate) fn upstream(self) -> Upstream {
        match self {
            Self::Uwsgi => Upstream::Uwsgi,
            Self::Gunicorn | Self::Granian => Upstream::Http,
        }
    }
}

impl Serve<'_> {
    fn program(&self, server: Server) -> Command {
        Command::new(self.site.place.venv.join("bin").join(server.program()))
    }
}

/// The command FIFO of a uWSGI that runs in that folder.
fn fifo(folder: &Path) -> PathBuf {
    folder.join("fifo")
}

/// Tells uWSGI to replace its workers. During a chain reload, it ignores further requests.
pub(crate) async fn reload_uwsgi(uwsgi: &Guard, folder: &Path, manner: Reload) -> anyhow::Result<()> {
    let complete = || uwsgi.log().matches("chain reloading complete").count();
    let (before, fifo) = (complete(), fifo(folder));
    let command = match manner {
        Reload::AllAtOnce => "r",
        Reload::OneByOne => "c",
    };
    fs::write(&fifo, command).with_context(|| format!("write to {}", fifo.display()))?;
    match manner {
        Reload::AllAtOnce => Ok(()),
        Reload::OneByOne => {
            until("uWSGI has reloaded", async || Ok((complete() > before).then_some(()))).await
        }
    }
}

/// `lazy-apps` enables chain reloads.
fn uwsgi(serve: &Serve<'_>) -> anyhow::Result<Command> {
    let Serve { site, scene, folder, socket } = serve;
    let file = folder.join("uwsgi.ini");
    let text = format!(
        "[uwsgi]
master = true
processes = {workers}
lazy-apps = true
single-interpreter = true
need-app = true
listen = {listen}
disable-logging = true
die-on-term = true
vacuum = true
socket = {socket}
chmod-socket = 660
master-fifo = {fifo}
virtualenv = {venv}
chdir = {directory}
module = {target}
",
        workers = scene.workers,
        listen = longest_queue().min(QUEUE),
        socket = socket.display(),
        fifo = fifo(folder).display(),
        venv = site.place.venv.display(),
        directory = scene.app.directory(&site.place).display(),
        target = scene.app.target(),
    );
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let mut command = serve.program(Server::Uwsgi);
    command.arg("--ini").arg(file);
    Ok(command)
}

fn longest_queue() -> u32 {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().unwrap_or(128)
}

/// Its sync workers, which are the default, and its fastest kind for quick responses.
fn gunicorn(serve: &Serve<'_>) -> Command {
    let mut bind = OsString::from("unix:");
    bind.push(serve.socket);
    let mut command = serve.program(Server::Gunicorn);
    command.args(["--workers", &serve.scene.workers.to_string(), "--no-control-socket", "--bind"]);
    command.arg(bind).arg(serve.scene.app.target());
    command
}

/// One Python thread per process, like the other servers.
fn granian(serve: &Serve<'_>) -> Command {
    let mut command = serve.program(Server::Granian);
    command.args(["--interface", "wsgi", "--http", "1", "--no-ws", "--blocking-threads", "1"]);
    command.args(["--workers", &serve.scene.workers.to_string(), "--uds"]).arg(serve.socket);
    command.arg(serve.scene.app.target());
    command
}
