//! Calls systemd over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Each job opens its own connection, so a broken one affects no other job.

use std::time::Duration;

use api::VassalName;
use tokio_stream::StreamExt as _;
use zbus::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

use super::super::JobError;
use super::{refused, worker};
use crate::pidfd::Ending;

/// systemd learns of an exit at the same time as emperord: how often to ask again, and after which delay.
const TRIES: usize = 20;
const GAP: Duration = Duration::from_millis(50);

const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;
const CLD_DUMPED: i32 = 3;

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
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
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

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "ExecMainPID")]
    fn exec_main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_exit_timestamp_monotonic(&self) -> zbus::Result<u64>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_code(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_start_pre(&self) -> zbus::Result<Vec<Executed>>;
}

/// An entry of `ExecStartPre`: program, arguments, whether its failure counts; start and end time by both
/// clocks; pid, `si_code` and `si_status`.
type Executed = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// An entry of `ListUnitsByPatterns`: name, description, load state, active state, sub state, followed unit,
/// path, and its job.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
}

/// Starts a unit, and waits until it is ready.
pub(super) async fn start(unit: String) -> Result<(), JobError> {
    let Err(error) = run(Verb::Start, &unit).await else { return Ok(()) };
    match refusal(&unit).await {
        Ok(Some(why)) => Err(JobError::Refused(format!("{why} (see `systemctl status {unit}`)"))),
        Ok(None) => Err(error),
        Err(asked) => {
            tracing::debug!(unit, error = %asked, "systemd does not report why it was not started");
            Err(error)
        }
    }
}

/// Stops a unit, and waits until it has stopped.
pub(super) async fn stop(unit: String) -> Result<(), JobError> {
    run(Verb::Stop, &unit).await
}

/// Applies a changed drop-in to a running unit.
pub(super) async fn refresh(unit: String) -> Result<(), JobError> {
    let refreshed = async {
        let bus = Connection::system().await?;
        reload_if_changed(&bus, &ManagerProxy::new(&bus).await?, &unit).await
    };
    refreshed.await.map_err(|it| asking(&it))
}

/// Resets the failed units of an app. Waits for units that are stopping.
pub(super) async fn reset_failed(app: VassalName) -> Result<(), JobError> {
    reset_all_failed(&app).await.map_err(|it| asking(&it))
}

/// Returns how the process of a unit exited. Unknown if the unit no longer exists, as after a clean exit.
pub(super) async fn ending(unit: String, pid: u32) -> Ending {
    last_ending(&unit, pid).await.unwrap_or_else(|error| {
        tracing::debug!(unit, %error, "systemd does not report how it exited");
        Ending::Unknown
    })
}

async fn reset_all_failed(app: &VassalName) -> zbus::Result<()> {
    let bus = Connection::system().await?;
    let manager = ManagerProxy::new(&bus).await?;
    let pattern = format!("workerd@{app}-*.service");
    for _ in 0..TRIES {
        let listed = manager.list_units_by_patterns(&[], &[&pattern]).await?.into_iter();
        let of_app = listed.filter(|it| worker(&it.0).is_some_and(|it| it.vassal == *app));
        let mut are_ending = false;
        for (unit, _, _, state, ..) in of_app {
            match state.as_str() {
                "failed" => manager.reset_failed_unit(&unit).await?,
                "inactive" => {}
                _ => are_ending = true,
            }
        }
        if !are_ending {
            break;
        }
        tokio::time::sleep(GAP).await;
    }
    Ok(())
}

async fn last_ending(unit: &str, pid: u32) -> zbus::Result<Ending> {
    let bus = Connection::system().await?;
    let path = ManagerProxy::new(&bus).await?.get_unit(unit).await?;
    let service = ServiceProxy::builder(&bus).path(path)?.build().await?;
    for _ in 0..TRIES {
        if service.exec_main_pid().await? != pid {
            break;
        }
        if service.exec_main_exit_timestamp_monotonic().await? != 0 {
            return Ok(ended(service.exec_main_code().await?, service.exec_main_status().await?));
        }
        tokio::time::sleep(GAP).await;
    }
    Ok(Ending::Unknown)
}

/// Converts `si_code` and `si_status` of SIGCHLD, see waitid(2).
fn ended(code: i32, status: i32) -> Ending {
    match code {
        CLD_EXITED => Ending::Status(status),
        CLD_KILLED | CLD_DUMPED => Ending::Signal(status),
        _ => Ending::Unknown,
    }
}

/// Why the process of a failed unit couldn't be created. None if it was created, if a retry may help, or if
/// unknown.
async fn refusal(unit: &str) -> zbus::Result<Option<String>> {
    let bus = Connection::system().await?;
    let path = ManagerProxy::new(&bus).await?.get_unit(unit).await?;
    let service = ServiceProxy::builder(&bus).path(path)?.build().await?;
    let prepared = service.exec_start_pre().await?;
    if let Some((command, status)) = prepared.iter().find_map(failed) {
        if refused::is_transient(status) {
            return Ok(None);
        }
        let why = refused::meaning(status).unwrap_or_else(|| format!("it exited with status {status}"));
        return Ok(Some(format!("{command}, which prepares its start, failed: {why}")));
    }
    if service.exec_main_code().await? != CLD_EXITED {
        return Ok(None);
    }
    Ok(refused::meaning(service.exec_main_status().await?))
}

/// The program and status of a command that failed.
fn failed((program, .., code, status): &Executed) -> Option<(&str, i32)> {
    (*code == CLD_EXITED && *status != 0).then_some((program, *status))
}

fn asking(error: &zbus::Error) -> JobError {
    JobError::Failed(format!("ask systemd over D-Bus: {error}"))
}

async fn run(verb: Verb, unit: &str) -> Result<(), JobError> {
    let result = job(verb, unit).await.map_err(|it| asking(&it))?;
    match result.as_str() {
        "done" => Ok(()),
        result => {
            Err(JobError::Failed(format!("systemd says `{result}` of {unit}: see `systemctl status {unit}`")))
        }
    }
}

/// Runs a job and returns its result.
async fn job(verb: Verb, unit: &str) -> zbus::Result<String> {
    let bus = Connection::system().await?;
    let manager = ManagerProxy::new(&bus).await?;
    manager.subscribe().await?;
    // Subscribe first: the job may finish before its path is returned.
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

/// Reloads the unit files if the unit's file has changed. A unit that systemd keeps in memory, such as a
/// failed one, may be outdated.
async fn reload_if_changed(bus: &Connection, manager: &ManagerProxy<'_>, unit: &str) -> zbus::Result<()> {
    let path = manager.load_unit(unit).await?;
    let unit = UnitProxy::builder(bus).path(path)?.build().await?;
    if unit.need_daemon_reload().await? {
        manager.reload().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_converted() {
        for (code, status, expected) in [
            (CLD_EXITED, 3, Ending::Status(3)),
            (CLD_KILLED, 9, Ending::Signal(9)),
            (CLD_DUMPED, 11, Ending::Signal(11)),
            (0, 0, Ending::Unknown),
        ] {
            assert_eq!(ended(code, status), expected, "{code} {status}");
        }
    }
}
