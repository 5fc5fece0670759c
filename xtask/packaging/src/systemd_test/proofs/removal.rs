//! What is left when the package is removed, and when it is purged.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::super::container::Container;
use super::super::guide::{Chapter, at_home};
use super::proven;

/// Folders that change on their own, or whose files were created by following the guide and not by the
/// package.
const OTHERS: [&str; 13] = [
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/var/tmp",
    "/root",
    "/srv",
    "/etc/letsencrypt",
    "/var/www",
    "/var/cache",
    "/var/log",
    "/var/lib/apt",
    "/var/lib/systemd",
];

/// The files of the server that a package could affect.
pub(crate) fn files(container: &Container) -> anyhow::Result<BTreeSet<String>> {
    let pruned: Vec<_> = OTHERS.iter().map(|folder| format!("-path {folder}")).collect();
    let found = container.run(&format!("find / \\( {} \\) -prune -o -print", pruned.join(" -o ")))?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Follows the guide. `bare` is the list of files before the installation.
pub(crate) fn prove(container: &Container, chapter: &Chapter, bare: &BTreeSet<String>) -> anyhow::Result<()> {
    let [remove, purge] = chapter.blocks.as_slice() else {
        anyhow::bail!("the guide removes in {} steps, not 2", chapter.blocks.len());
    };
    container.run(&at_home(remove))?;
    nothing_runs(container)?;
    container.run("test -e /etc/imperium/vassals/blog.toml")?;
    proven("a removal leaves no process, no socket and no unit; the apps' files stay");
    container.run(&at_home(purge))?;
    let now = files(container)?;
    let left: Vec<_> = now.difference(bare).filter(|it| !is_of_the_system(it)).collect();
    ensure!(left.is_empty(), "files are left: {left:#?}");
    proven("a purge leaves no file");
    Ok(())
}

/// Files that systemd, dpkg and shadow write for anything that is installed or started.
fn is_of_the_system(path: &str) -> bool {
    let systems =
        ["/run/systemd/", "/run/user", "/run/dbus", "/run/log", "/run/udev", "/etc/passwd", "/etc/group"];
    let more =
        ["/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/var/lib/dpkg/", "/etc/.pwd.lock"];
    let is_named = ["imperium", "frontd", "emperord", "workerd"].iter().any(|name| path.contains(name));
    !is_named && systems.iter().chain(&more).any(|prefix| path.starts_with(prefix))
}

fn nothing_runs(container: &Container) -> anyhow::Result<()> {
    let left = container.run("ps -eo args | grep -E '^/usr/lib/imperium/|^imperium:' || true")?;
    ensure!(left.is_empty(), "processes are left: {left}");
    let units =
        container.run("systemctl list-units --all --plain --no-legend 'frontd*' 'emperord*' 'workerd@*'")?;
    ensure!(units.is_empty(), "units are left: {units}");
    let sockets = container.run("find /run/imperium -type s 2>/dev/null || true")?;
    ensure!(sockets.is_empty(), "sockets are left: {sockets}");
    for port in [80, 443] {
        let address = ([127, 0, 0, 1], port).into();
        let refused = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        let error = refused.err().with_context(|| format!("port {port} is still open"))?;
        ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "port {port}: {error}");
    }
    Ok(())
}
