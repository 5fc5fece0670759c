//! Starts the other app servers, configured as their documentation recommends for several processes behind nginx.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tests::wait::until;

use super::Reload;
use super::nginx::Upstream;
use crate::app::Scene;
use crate::guard::Guard;
use crate::side::Server;
use crate::site::Site;

/// uWSGI's listen queue is as long as the kernel allows, up to this.
const QUEUE: u32 = 1024;

/// What a server serves, and where.
#[derive(Debug)]
pub(super) struct Serve<'a> {
    pub(super) site: &'a Site,
    pub(super) scene: Scene,
    /// The folder for its files.
    pub(super) folder: &'a Path,
    /// The path of its socket.
    pub(super) socket: &'a Path,
}

/// Starts a server.
pub(super) fn start(server: Server, serve: &Serve<'_>) -> anyhow::Result<Guard> {
    let mut command = match server {
        Server::Uwsgi => uwsgi(serve)?,
        Server::Gunicorn => gunicorn(serve),
        Server::Granian => granian(serve),
        Server::Uvicorn => uvicorn(serve),
    };
    let Serve { site, scene, folder, .. } = serve;
    command.current_dir(scene.app.directory(&site.place)).envs(scene.app.env(&site.place));
    Guard::start(server.program(), &command, folder)
}

/// The protocol between nginx and a server.
pub(super) fn upstream(server: Server) -> Upstream {
    match server {
        Server::Uwsgi => Upstream::Uwsgi,
        Server::Gunicorn | Server::Granian | Server::Uvicorn => Upstream::Http,
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
pub(super) async fn reload_uwsgi(uwsgi: &Guard, folder: &Path, manner: Reload) -> anyhow::Result<()> {
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
    command.args(["--http", "1"]);
    if serve.scene.app.is_asgi() {
        command.args(["--interface", "asgi", "--loop", "uvloop"]);
    } else {
        command.args(["--interface", "wsgi", "--no-ws", "--blocking-threads", "1"]);
    }
    if let Some(concurrency) = serve.scene.concurrency {
        command.args(["--backpressure", &concurrency.to_string()]);
    }
    command.args(["--workers", &serve.scene.workers.to_string(), "--uds"]).arg(serve.socket);
    command.arg(serve.scene.app.target());
    command
}

/// Its fastest loop and parser. Like the others, it logs no requests.
fn uvicorn(serve: &Serve<'_>) -> Command {
    let mut command = serve.program(Server::Uvicorn);
    command.args(["--loop", "uvloop", "--http", "httptools", "--no-access-log"]);
    command.args(["--workers", &serve.scene.workers.to_string(), "--uds"]).arg(serve.socket);
    command.arg(serve.scene.app.target());
    command
}
