//! Runs the stack like the image of `deploy/container`: as process 1 of a PID namespace, with the commands of
//! the Containerfile.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, Protocol};
use crate::containerfile::Containerfile;
use crate::place::Place;
use crate::process::{self, Process};
use crate::vassal::Vassal;
use crate::wait::{TIMEOUT, until};
use crate::{leftovers, ports};

/// The port of the admin listener in the image.
const ADMIN: &str = "9180";

/// A running container. It is killed on drop.
pub struct Container {
    root: TempDir,
    /// The search path for its programs.
    path: OsString,
    health_check: Vec<String>,
    /// Creates the namespaces, and exits with the status of process 1.
    unshare: Child,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

impl Container {
    /// Runs the Containerfile's entry point with these apps.
    ///
    /// # Errors
    /// If a file can't be written, or `unshare` can't be started.
    pub fn run(
        recipe: &Containerfile,
        place: &Place,
        vassals: impl IntoIterator<Item = Vassal>,
    ) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("imperium-").tempdir()?;
        fs::create_dir(root.path().join("vassals"))?;
        for vassal in vassals {
            fs::write(root.path().join(format!("vassals/{}.toml", vassal.name())), vassal.text_for(true))?;
        }
        let [http, https, admin] = ports::free()?;
        let path = path(&place.binaries)?;
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare
            .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
            .args(recipe.entrypoint()?)
            .args(["--http", &http.to_string(), "--https", &https.to_string(), "--admin", &admin.to_string()])
            .env("PATH", &path)
            .env("IMPERIUM_ROOT", root.path())
            .stdin(Stdio::null())
            .stdout(File::create(root.path().join("out"))?)
            .stderr(File::create(root.path().join("err"))?);
        let unshare = unshare.spawn().context("run unshare")?;
        Ok(Self { root, path, health_check: recipe.health_check()?, unshare, http, https, admin })
    }

    /// The folder with all its files.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its output on stdout.
    #[must_use]
    pub fn out(&self) -> String {
        fs::read_to_string(self.root().join("out")).unwrap_or_default()
    }

    /// Its output on stderr.
    #[must_use]
    pub fn err(&self) -> String {
        fs::read_to_string(self.root().join("err")).unwrap_or_default()
    }

    /// The pid of its process 1, as seen from outside.
    ///
    /// # Errors
    /// If it doesn't start.
    pub async fn init(&self) -> anyhow::Result<u32> {
        let child = async || {
            let children = Process::descendants(self.unshare.id()).into_iter();
            Ok(children.map(|it| it.pid).find(|pid| is_process_1(*pid)))
        };
        until("the container has a process 1", child).await
    }

    /// Runs a command in it, like `docker exec`. Returns the output, or None if the command fails.
    ///
    /// # Errors
    /// If it can't be run.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<Option<String>> {
        let init = self.init().await?.to_string();
        let mut enter = tokio::process::Command::new("nsenter");
        enter.args(["--target", &init]);
        match rustix::process::geteuid().is_root() {
            true => enter.args(["--mount", "--pid"]),
            // The owner of a user namespace may enter it and the namespaces that it owns, which are all that
            // `run` has created.
            false => enter.args(["--user", "--preserve-credentials", "--mount", "--pid"]),
        };
        enter.arg("--").args(command);
        enter.env("PATH", &self.path).env("IMPERIUM_ROOT", self.root());
        let output = enter.output().await.context("run nsenter")?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Whether the Containerfile's health check succeeds.
    ///
    /// # Errors
    /// If the check can't be run.
    pub async fn is_healthy(&self) -> anyhow::Result<bool> {
        let port = self.admin.port().to_string();
        let words: Vec<_> = self.health_check.iter().map(|it| it.replace(ADMIN, &port)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Ok(self.exec(&words).await?.is_some())
    }

    /// Creates a client of an app.
    ///
    /// # Errors
    /// If there is no CA.
    pub fn client(&self, app: &str) -> anyhow::Result<Client> {
        let ca = self.root().join("run/state/tls/ca.pem");
        Client::new(&ca, &format!("{app}.localhost"), self.http, Protocol::Plain)
    }

    /// Stops it like `docker stop`.
    ///
    /// # Errors
    /// If it has already exited.
    pub async fn stop(&self) -> anyhow::Result<()> {
        process::signal(self.init().await?, Signal::TERM)
    }

    /// Waits until it exits. Returns its status and its output.
    ///
    /// # Errors
    /// If it doesn't exit, or leaves a socket behind.
    pub async fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let unshare = self.unshare.id();
        let ended = tokio::task::spawn_blocking(move || process::ends(unshare, TIMEOUT)).await?;
        ensure!(ended, "the container is still running after SIGTERM");
        let status = self.unshare.wait()?;
        leftovers::sockets(&self.root().join("run"), [self.http, self.https, self.admin])?;
        Ok((status, self.out()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its process 1 is killed too (`--kill-child`), and with it all others.
        let _ended = self.unshare.kill();
        let _reaped = self.unshare.wait();
    }
}

fn path(binaries: &Path) -> anyhow::Result<OsString> {
    let usual = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([binaries.to_owned()].into_iter().chain(env::split_paths(&usual)))?)
}

/// Whether its pid is 1 in its own namespace (proc_pid_status(5)).
fn is_process_1(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
}
