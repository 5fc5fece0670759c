//! Queries systemd about units.

use anyhow::{Context as _, ensure};
use tests::wait::until;

use super::container::Container;

/// The states of a unit with a process that isn't about to stop.
const STARTED: &str = "activating,active";

/// The pid of a unit; 0 if it has no process.
pub(crate) fn main_pid(container: &Container, unit: &str) -> anyhow::Result<u32> {
    Ok(container.run(&format!("systemctl show -p MainPID --value {unit}"))?.parse()?)
}

/// Waits until a unit has a process other than `before`.
pub(crate) async fn another_pid(container: &Container, unit: &str, before: u32) -> anyhow::Result<()> {
    let what = format!("{unit} has another process");
    until(&what, async || Ok((![0, before].contains(&main_pid(container, unit)?)).then_some(()))).await
}

/// The workers of an app that are in one of these states.
fn workers(container: &Container, app: &str, states: &str) -> anyhow::Result<Vec<String>> {
    let list = format!("systemctl list-units --plain --no-legend --state={states} 'workerd@{app}-*'");
    let units = container.run(&list)?;
    Ok(units.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Waits until that many workers of an app are starting or running.
pub(crate) async fn workers_are(container: &Container, app: &str, count: usize) -> anyhow::Result<()> {
    let what = format!("{app} has {count} workers");
    until(&what, async || Ok((workers(container, app, STARTED)?.len() == count).then_some(()))).await
}

/// Waits until an app has that many workers, all of them ready. Returns their units.
pub(crate) async fn ready(container: &Container, app: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let mut last = Vec::new();
    let what = format!("{app} has {count} workers that are ready");
    let settled = until(&what, async || {
        last = workers(container, app, STARTED)?;
        let is_whole = last.len() == count && workers(container, app, "active")? == last;
        Ok(is_whole.then(|| last.clone()))
    });
    settled.await.with_context(|| format!("it has {last:?}"))
}

/// The highest acceptable exposure level of each unit in `systemd-analyze security`.
pub(crate) fn are_hardened(container: &Container, worker: &str) -> anyhow::Result<()> {
    let all = container.run("systemd-analyze --no-pager security")?;
    for (unit, most) in [("frontd@1.service", 2.5), ("emperord.service", 4.0), (worker, 4.0)] {
        let line = all.lines().find(|line| line.starts_with(unit));
        let exposure = line.and_then(|line| line.split_whitespace().nth(1));
        let exposure: f64 = exposure.with_context(|| format!("find {unit} in {all}"))?.parse()?;
        ensure!(exposure < most, "`systemd-analyze security {unit}` says {exposure}, not less than {most}");
    }
    Ok(())
}

/// Checks the settings that blog's file in the guide contains.
pub(crate) fn has_its_user_and_limits(container: &Container, worker: &str) -> anyhow::Result<()> {
    let uid = container.run("id -u blog")?;
    let properties =
        container.run(&format!("systemctl show {worker} -p User,MemoryMax,CPUQuotaPerSecUSec"))?;
    let mut sorted: Vec<_> = properties.lines().collect();
    sorted.sort_unstable();
    let user = format!("User={uid}");
    ensure!(sorted == ["CPUQuotaPerSecUSec=1.500000s", "MemoryMax=300000000", &user], "{properties}");
    Ok(())
}

/// Whether the kernel limits the memory of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Holds,
    /// cgroup v2 has no memory controller here, and nspawn doesn't pass v1's to containers.
    NotHere,
}

/// Reads the limit from the kernel.
pub(crate) fn memory_bound(container: &Container, worker: &str) -> anyhow::Result<Bound> {
    let limit = format!("cat /sys/fs/cgroup/imperium.slice/{worker}/memory.max 2>/dev/null || true");
    let Ok(bytes) = container.run(&limit)?.parse::<u64>() else { return Ok(Bound::NotHere) };
    // The kernel rounds down to whole pages.
    ensure!((299_000_000..=300_000_000).contains(&bytes), "the kernel allows {bytes} bytes");
    Ok(Bound::Holds)
}
