//! Speaks with systemd over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Each job has a connection of its own, so that none depends on one that broke.

use tokio_stream::StreamExt as _;
use zbus::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
}

/// Starts a unit; waits until it is ready.
pub(super) async fn start(unit: String) -> Result<(), String> {
    run(Verb::Start, &unit).await
}

/// Stops a unit; waits until it is stopped.
pub(super) async fn stop(unit: String) -> Result<(), String> {
    run(Verb::Stop, &unit).await
}

async fn run(verb: Verb, unit: &str) -> Result<(), String> {
    let result = job(verb, unit).await.map_err(|error| format!("ask systemd over D-Bus: {error}"))?;
    match result.as_str() {
        "done" => Ok(()),
        result => Err(format!("systemd says `{result}` of {unit}: see `systemctl status {unit}`")),
    }
}

/// A job from its beginning to its end; gives its result.
async fn job(verb: Verb, unit: &str) -> zbus::Result<String> {
    let bus = Connection::system().await?;
    let manager = ManagerProxy::new(&bus).await?;
    manager.subscribe().await?;
    // Heard from before it begins: it may be over before its name comes back.
    let mut ended = manager.receive_job_removed().await?;
    let job = match verb {
        Verb::Start => {
            reload_if_changed(&bus, &manager, unit).await?;
            manager.start_unit(unit, "replace").await?
        }
        Verb::Stop => manager.stop_unit(unit, "replace").await?,
    };
    while let Some(signal) = ended.next().await {
        let signal = signal.args()?;
        if signal.job == *job {
            return Ok(signal.result.to_owned());
        }
    }
    Err(zbus::Error::Failure("the bus has ended".to_owned()))
}

/// A unit that systemd still has in memory, such as one that failed, may be of an older file.
async fn reload_if_changed(bus: &Connection, manager: &ManagerProxy<'_>, unit: &str) -> zbus::Result<()> {
    let path = manager.load_unit(unit).await?;
    let unit = UnitProxy::builder(bus).path(path)?.build().await?;
    if unit.need_daemon_reload().await? {
        manager.reload().await?;
    }
    Ok(())
}
