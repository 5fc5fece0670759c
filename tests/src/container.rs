//! The stack as the image of `deploy/container` runs it: as process 1 of its own namespace of processes, by the words
//! of the recipe itself.

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
use crate::wait::{PATIENCE, until};
use crate::{leftovers, ports};

/// The port of probes in the image.
const ADMIN: &str = "9180";

/// A container that runs. Dropping it kills it.
pub struct Container {
    root: TempDir,
    /// Where its programs are found.
    path: OsString,
    health_check: Vec<String>,
    /// Makes the namespaces, and ends with the status of process 1.
    unshare: Child,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

impl Container {
    /// Runs the recipe's entry point with these apps.
    ///
    /// # Errors
    /// When a file cannot be written, or `unshare` not be started.
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

    /// The folder that all of it lives in.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// All that it wrote to stdout.
    #[must_use]
    pub fn out(&self) -> String {
        fs::read_to_string(self.root().join("out")).unwrap_or_default()
    }

    /// All that it wrote to stderr.
    #[must_use]
    pub fn err(&self) -> String {
        fs::read_to_string(self.root().join("err")).unwrap_or_default()
    }

    /// Its process 1, by the number that it has here.
    ///
    /// # Errors
    /// When it never is there.
    pub async fn init(&self) -> anyhow::Result<u32> {
        let child = async || {
            let children = Process::descendants(self.unshare.id()).into_iter();
            Ok(children.map(|it| it.pid).find(|pid| is_process_1(*pid)))
        };
        until("the container has a process 1", child).await
    }

    /// Runs a command inside, as `docker exec` does; gives what it printed, or nothing when it fails.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<Option<String>> {
        let init = self.init().await?.to_string();
        let mut enter = tokio::process::Command::new("nsenter");
        enter.args(["--target", &init]);
        match rustix::process::geteuid().is_root() {
            true => enter.args(["--mount", "--pid"]),
            // Who made the user namespace may enter it, and with it those that it owns: they are all that `run` made.
            false => enter.args(["--user", "--preserve-credentials", "--mount", "--pid"]),
        };
        enter.arg("--").args(command);
        enter.env("PATH", &self.path).env("IMPERIUM_ROOT", self.root());
        let output = enter.output().await.context("run nsenter")?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Whether the recipe's check says that it is well.
    ///
    /// # Errors
    /// When the check cannot be run.
    pub async fn is_healthy(&self) -> anyhow::Result<bool> {
        let port = self.admin.port().to_string();
        let words: Vec<_> = self.health_check.iter().map(|it| it.replace(ADMIN, &port)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Ok(self.exec(&words).await?.is_some())
    }

    /// A client of an app.
    ///
    /// # Errors
    /// When there is no CA.
    pub fn client(&self, app: &str) -> anyhow::Result<Client> {
        let ca = self.root().join("run/state/tls/ca.pem");
        Client::new(&ca, &format!("{app}.localhost"), self.http, Protocol::Plain)
    }

    /// Asks it to end as `docker stop` does.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn stop(&self) -> anyhow::Result<()> {
        process::signal(self.init().await?, Signal::TERM)
    }

    /// Waits for its end; gives its status.
    ///
    /// # Errors
    /// When it does not end, or leaves a socket behind.
    pub async fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let unshare = self.unshare.id();
        let ended = tokio::task::spawn_blocking(move || process::ends(unshare, PATIENCE)).await?;
        ensure!(ended, "the container lives on after SIGTERM");
        let status = self.unshare.wait()?;
        leftovers::sockets(&self.root().join("run"), [self.http, self.https, self.admin])?;
        Ok((status, self.out()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its process 1 goes with it (`--kill-child`), and takes all others along.
        let _ended = self.unshare.kill();
        let _reaped = self.unshare.wait();
    }
}

fn path(binaries: &Path) -> anyhow::Result<OsString> {
    let usual = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([binaries.to_owned()].into_iter().chain(env::split_paths(&usual)))?)
}

/// Whether it has the number 1 in its own namespace (proc_pid_status(5)).
fn is_process_1(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
}
