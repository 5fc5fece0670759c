//! `cargo xtask systemd-test`: follows the deployment guide on a Debian with its own systemd, and checks
//! under TLS load that each part can be restarted, killed and upgraded without losing a request.

mod container;
mod debian;
mod guide;
mod proofs;
mod server;
mod units;
mod visitors;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::dist::{Built, Target};
use container::Container;
use debian::Debian;
use tests::interrupt::unless_interrupted;
use xtask::step::{heading, step};

/// The required programs, and the Debian packages that contain them.
const TOOLS: [(&str, &str); 4] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// The arguments of `cargo xtask systemd-test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keep the Debian for inspection until the next run
    #[arg(long)]
    keep: bool,
}

/// Builds, installs, and tests. Fails if a required program is missing.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure_able()?;
    let built = Built::new(Target::HOST)?;
    let debian =
        step("debian", "a Debian of its own, in target/systemd-test", || Debian::make(xtask::root()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let root = debian.layer()?;
    let proven = runtime.block_on(unless_interrupted(prove(root.path(), &built)));
    if arguments.keep {
        kept(&root.keep());
    }
    proven?
}

#[expect(clippy::print_stderr, reason = "it was asked for")]
fn kept(root: &Path) {
    eprintln!(
        "{} until the next run, to be looked at by `systemd-nspawn --directory {}`",
        heading("kept"),
        root.display()
    );
}

async fn prove(root: PathBuf, built: &Built) -> anyhow::Result<()> {
    step("prepare", "the package and two projects, as the guide assumes", || {
        server::prepare(&root)?;
        server::put_package(&root, built, None)
    })?;
    let mut container = Container::boot(root).await?;
    match proofs::run(&mut container, built).await {
        Ok(()) => container.power_off().await,
        Err(error) => {
            container.show_journal();
            Err(error)
        }
    }
}

fn ensure_able() -> anyhow::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    ensure!(
        is_root,
        "systemd-test needs root: it mounts, and boots a system in namespaces; run it with sudo"
    );
    let missing: Vec<_> =
        TOOLS.iter().filter(|(tool, _)| !is_there(tool)).map(|(_, package)| *package).collect();
    ensure!(missing.is_empty(), "systemd-test needs more: `apt-get install {}`", missing.join(" "));
    Ok(())
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

/// Runs a program on this machine.
fn here(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    use xtask::setup::Quietly as _;
    Command::new(program)
        .args(arguments)
        .quietly()
        .with_context(|| format!("{program} {}", arguments.join(" ")))
}
