//! A Debian that was booted with its own systemd and network namespace.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tests::wait::until;

/// A running container. It is stopped on drop.
pub(crate) struct Container {
    root: PathBuf,
    nspawn: Child,
    /// The pid of its process 1, as seen from outside.
    leader: Pid,
}

impl Container {
    /// Boots the system in `root`, and moves this thread into its network namespace.
    pub(crate) async fn boot(root: PathBuf) -> anyhow::Result<Self> {
        let nspawn = nspawn(&root)?;
        let leader = Pid::from_raw(1).context("a process id")?;
        let mut container = Self { root, nspawn, leader };
        container.booted().await?;
        Ok(container)
    }

    /// The root of its file system.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a shell command in it. Returns the output.
    pub(crate) fn run(&self, command: &str) -> anyhow::Result<String> {
        output_of(command, &self.command(command).output().context("run nsenter")?)
    }

    /// Like `run`, while other tasks of this thread continue.
    pub(crate) async fn run_beside(&self, command: &str) -> anyhow::Result<String> {
        let output = tokio::process::Command::from(self.command(command)).output();
        output_of(command, &output.await.context("run nsenter")?)
    }

    fn command(&self, command: &str) -> Command {
        let leader = self.leader.as_raw_nonzero().to_string();
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &leader, "--all", "--wd", "env", "-i", "LANG=C.UTF-8"]);
        enter.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "sh", "-ec", command]);
        enter.stdin(Stdio::null());
        enter
    }

    /// Shuts it down and boots it again. `systemctl reboot` doesn't work with nspawn if this machine's `/run`
    /// isn't a tmpfs.
    pub(crate) async fn reboot(&mut self) -> anyhow::Result<()> {
        self.off().await?;
        self.nspawn = nspawn(&self.root)?;
        self.booted().await
    }

    /// Shuts it down.
    pub(crate) async fn power_off(mut self) -> anyhow::Result<()> {
        self.off().await
    }

    async fn off(&mut self) -> anyhow::Result<()> {
        self.run("systemctl poweroff")?;
        until("the container is off", async || Ok(self.nspawn.try_wait()?)).await?;
        Ok(())
    }

    /// Prints the end of its journal.
    #[expect(clippy::print_stderr, reason = "who looks for the cause of a failure reads it")]
    pub(crate) fn show_journal(&self) {
        match self.run("journalctl --no-pager --lines 150") {
            Ok(journal) => eprintln!("{journal}"),
            Err(error) => eprintln!("{error:#}"),
        }
    }

    async fn booted(&mut self) -> anyhow::Result<()> {
        let mut last = String::new();
        let up = until("the container has booted", async || {
            ensure!(self.nspawn.try_wait()?.is_none(), "systemd-nspawn has ended");
            // Initially, the child is an intermediate process that creates process 1 and exits.
            if let Some(child) = self.child() {
                self.leader = child;
                last = self.run("systemctl is-system-running || true").unwrap_or_else(|it| it.to_string());
            }
            Ok(["running", "degraded"].contains(&last.as_str()).then_some(()))
        });
        let up = up.await;
        up.with_context(|| format!("boot: {last} {}", self.console()))?;
        let state = last;
        ensure!(state == "running", "units have failed: {}", self.run("systemctl --failed --no-legend")?);
        self.enter_network()
    }

    /// The only child of nspawn is process 1 of the container.
    fn child(&self) -> Option<Pid> {
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    fn enter_network(&self) -> anyhow::Result<()> {
        let network = File::open(format!("/proc/{}/ns/net", self.leader.as_raw_nonzero()))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the network of the container")
    }

    fn console(&self) -> String {
        fs::read_to_string(self.root.with_file_name("console.log")).unwrap_or_default()
    }
}

fn nspawn(root: &Path) -> anyhow::Result<Child> {
    let console = File::create(root.with_file_name("console.log"))?;
    let mut nspawn = Command::new("setpriv");
    // If this process is killed, the container is powered off.
    nspawn.args(["--pdeathsig=TERM", "systemd-nspawn"]);
    nspawn.args(["--quiet", "--boot", "--machine=imperium-test", "--private-network", "--console=pipe"]);
    // There may be no systemd on this machine to register with.
    nspawn.args(["--register=no", "--keep-unit", "--directory"]).arg(root);
    nspawn.stdin(Stdio::null()).stderr(console.try_clone()?).stdout(console);
    nspawn.spawn().context("run systemd-nspawn")
}

fn output_of(command: &str, output: &Output) -> anyhow::Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command}` ended with {}: {stderr}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.nspawn.try_wait(), Ok(Some(_))) {
            return;
        }
        // When its process 1 is killed, all others are too.
        if let Some(leader) = self.child() {
            let _ended = kill_process(leader, Signal::KILL);
        }
        let _ended = self.nspawn.kill();
        let _reaped = self.nspawn.wait();
    }
}
