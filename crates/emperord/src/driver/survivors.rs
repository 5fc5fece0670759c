//! Adopts running workers that aren't recorded, because the state file was lost or damaged.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use api::WorkerName;
use supervise::{Adoption, Event};
use tokio::sync::mpsc;
use vassal::Vassal;

use super::Driver;
use super::app::{App, WorkerProcess};
use crate::launch::Launcher;
use crate::messages::{Attaching, Command, Taking};
use crate::pidfd::Process;

/// How long to wait for such workers before others are started with their numbers. They try to attach once a
/// second.
const EXPECTED_WITHIN: Duration = Duration::from_secs(3);
/// How long such workers are adopted.
const ADOPTED_WITHIN: Duration = Duration::from_secs(15);
/// The drain time of a worker whose app is unknown.
const GRACE: Duration = Duration::from_secs(30);
/// How many sockets of workers are looked at.
const MAX_SOCKETS: usize = 4096;

/// The period in which unrecorded workers may attach.
#[derive(Debug)]
pub(super) struct Recovery {
    began: Instant,
    /// The processes that listened on the sockets of workers when it began, and aren't adopted yet.
    listeners: Vec<(WorkerName, Process)>,
}

impl Recovery {
    /// Begins by finding the workers below `folder`, which has a folder per app.
    pub(super) fn begin(now: Instant, folder: &Path) -> Self {
        tracing::warn!(
            "the list of running workers is unknown: workers that attach are adopted, before others are started"
        );
        Self { began: now, listeners: listeners(folder) }
    }

    /// No worker is started before this time.
    pub(super) fn starts_from(&self) -> Instant {
        self.began + EXPECTED_WITHIN
    }

    fn ends_at(&self) -> Instant {
        self.began + ADOPTED_WITHIN
    }

    /// When the driver has something to do next.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        [self.starts_from(), self.ends_at()].into_iter().find(|it| *it > now)
    }
}

/// The workers that have sockets below `folder`, such as `blog/blog-1.sock`. An app can write to its own folder, so
/// links and names of other apps' workers are ignored: otherwise it could have a process of another app killed.
fn listeners(folder: &Path) -> Vec<(WorkerName, Process)> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries(folder).flat_map(|app| {
        let name = app.file_name();
        entries(&app.path()).map(move |socket| (name.clone(), socket))
    });
    let listener = |(app, socket): (OsString, fs::DirEntry)| {
        let path = socket.path();
        let worker = WorkerName::parse(path.file_stem()?.to_str()?).ok()?;
        let is_its_own = app == worker.vassal.as_str() && socket.file_type().is_ok_and(|it| it.is_socket());
        Some((worker, is_its_own.then(|| Process::listening_on(&path))??))
    };
    sockets.take(MAX_SOCKETS).filter_map(listener).collect()
}

/// Whether `process`, which isn't recorded, can be a worker of an earlier emperord: it is in its unit, or runs as
/// its app's user, who owns `folder`, the folder of the app's sockets.
fn is_survivor(
    launcher: &dyn Launcher,
    process: &Process,
    worker: &WorkerName,
    vassal: &Vassal,
    folder: &Path,
) -> bool {
    let owner = folder.metadata().map(|it| it.uid());
    launcher.units().is_some_and(|it| it.is_of(process, worker, vassal))
        || owner.is_ok_and(|it| process.identity().has_user(it))
}

impl Driver {
    /// Adopts a worker that isn't recorded, if it serves and may have been started by an earlier emperord.
    /// Its version is unknown, so it serves until a worker of the current version replaces it.
    pub(super) fn take_over(&mut self, attaching: &Attaching) -> bool {
        let Attaching { worker, caller, served, taking, .. } = attaching;
        let is_expected = self.recovery.as_ref().is_some_and(|it| Instant::now() < it.ends_at());
        if !is_expected || served.is_none() || *taking != Taking::Requests {
            return false;
        }
        let Ok(process) = Process::open(caller.identity.pid) else { return false };
        process.is(*caller) && self.adopt_unrecorded(worker, &process)
    }

    /// Adopts the processes that listen on the sockets of workers, whether or not they attach. One that doesn't, since it
    /// has been frozen, keeps its number until it is killed for its silence: nothing else would ever stop it. An app
    /// whose file hasn't been read yet is asked for again.
    pub(super) fn adopt_listeners(&mut self) {
        let Some(recovery) = &mut self.recovery else { return };
        let mut listeners = std::mem::take(&mut recovery.listeners);
        listeners.retain(|(worker, process)| !process.has_ended() && !self.adopt_unrecorded(worker, process));
        if let Some(recovery) = &mut self.recovery {
            recovery.listeners = listeners;
        }
    }

    /// Ends the recovery once its time is over.
    pub(super) fn end_recovery(&mut self) {
        self.recovery.take_if(|it| it.ends_at() <= Instant::now());
    }

    /// Adopts a worker if its number is vacant and an earlier emperord may have started it.
    fn adopt_unrecorded(&mut self, worker: &WorkerName, process: &Process) -> bool {
        let (number, identity) = (worker.number, process.identity());
        let folder = self.config.worker_folder(&worker.vassal);
        let Some(vassal) = self.apps.get(&worker.vassal).and_then(|it| it.vassal.as_ref()) else {
            return false;
        };
        if !is_survivor(&*self.launcher, process, worker, vassal, &folder) {
            return false;
        }
        let is_vacant = |app: &&mut App| app.supervisor.worker(number).is_none();
        let Some(app) = self.apps.get_mut(&worker.vassal).filter(is_vacant) else { return false };
        tracing::warn!(%worker, pid = identity.pid, "adopted an unknown worker");
        app.runs(number, WorkerProcess::new(process.clone(), String::new(), None));
        let age = identity.age();
        self.notify(&worker.vassal, Event::Adopted { number, generation: 0, stage: Adoption::Ready, age });
        self.await_end(worker.clone(), process.clone());
        true
    }

    /// Tells a worker without a number to finish its requests and exit.
    pub(super) fn dismiss(
        &self,
        worker: &WorkerName,
        pid: u32,
        serves: bool,
        commands: &mpsc::Sender<Command>,
    ) {
        let grace = self.apps.get(&worker.vassal).map_or(GRACE, |app| app.supervisor.limits().grace);
        let command = match serves {
            true => Command::Drain(grace),
            false => Command::Stop("emperord didn't start it, or has replaced it already".to_owned()),
        };
        tracing::warn!(%worker, pid, "stopping a worker that emperord didn't start, or has replaced already");
        let _gone = commands.try_send(command);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn an_app_cannot_pass_off_another_process_as_its_worker() {
        let root = tempfile::tempdir().unwrap();
        let socket = |name: &str| root.path().join(name);
        for folder in ["blog", "shop"] {
            fs::create_dir(socket(folder)).unwrap();
        }
        let _listening: Vec<UnixListener> = ["blog/blog-1.sock", "shop/blog-2.sock", "blog/other.sock"]
            .map(|it| UnixListener::bind(socket(it)).unwrap())
            .into();
        symlink(socket("blog/blog-1.sock"), socket("shop/shop-1.sock")).unwrap();
        let found = listeners(root.path());
        let names: Vec<String> = found.iter().map(|(worker, _)| worker.to_string()).collect();
        assert_eq!(names, ["blog-1"]);
    }
}
