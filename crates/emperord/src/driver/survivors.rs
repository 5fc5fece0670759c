//! Adopts running workers that aren't recorded, because the state file was lost or damaged.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use api::WorkerName;
use supervise::{Adoption, DrainOrder, Event};
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
    /// The processes that listened on the sockets of workers when it began, until it is known whether they are adopted.
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
        let is_socket = |it: Metadata| it.file_type().is_socket() && it.nlink() == 1;
        let is_its_own = app == worker.vassal.as_str() && socket.metadata().is_ok_and(is_socket);
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
    /// has been frozen, keeps its number until it is killed for its silence: nothing else would ever stop it. While an app
    /// has no valid version, it isn't known whether the process is its worker, nor is another one started.
    pub(super) fn adopt_listeners(&mut self) {
        let Some(recovery) = &mut self.recovery else { return };
        let mut listeners = std::mem::take(&mut recovery.listeners);
        listeners.retain(|(worker, process)| {
            !process.has_ended() && !self.adopt_unrecorded(worker, process) && self.is_undecided(worker)
        });
        if let Some(recovery) = &mut self.recovery {
            recovery.listeners = listeners;
        }
    }

    fn is_undecided(&self, worker: &WorkerName) -> bool {
        self.apps.get(&worker.vassal).is_none_or(|app| app.vassal.is_none())
    }

    /// Ends the recovery once its time is over, and it is known whose worker each process is. Of those that were found,
    /// the processes of apps that don't exist are left alone.
    pub(super) fn end_recovery(&mut self) {
        let apps = &self.apps;
        self.recovery.take_if(|it| {
            it.ends_at() <= Instant::now()
                && !it.listeners.iter().any(|(worker, _)| apps.contains_key(&worker.vassal))
        });
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
        let is_its = |it: &WorkerProcess| it.process.identity() == identity;
        if self.apps.values().any(|app| app.worker_processes().any(|(_, it)| is_its(it))) {
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
            true => Command::Drain(DrainOrder::stop(grace)),
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
    use std::sync::Arc;

    use super::super::app::NewWorkers;
    use super::super::tests::{emperor::Root, manager::Manager};
    use super::*;

    /// It isn't known whose worker the process is, and another one could take its number later.
    #[tokio::test]
    async fn a_process_is_kept_in_mind_until_its_app_has_a_version() {
        let root = Root::new();
        let mut driver = root.driver(Arc::new(Manager::default()));
        let text = "domains = ['a']\napp = 'a:a'\ndirectory = '/'\nuser = 'nobody'\nworkers = 1";
        let vassal = Arc::new(Vassal::parse(Path::new("/v/blog.toml"), text).unwrap());
        let worker = WorkerName::parse("blog-1").unwrap();
        fs::create_dir_all(driver.config.worker_folder(&vassal.name)).unwrap();
        let mut app = App::new(vassal.name.clone(), vassal.file.clone());
        app.file_error = Some("its file has a mistake".to_owned());
        driver.apps.insert(vassal.name.clone(), app);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        let linked = WorkerName::parse("blog-7").unwrap();
        let listeners = vec![(worker, process.clone()), (linked, process)];
        driver.recovery = Some(Recovery { began: Instant::now() - 2 * ADOPTED_WITHIN, listeners });
        driver.settle();
        assert!(driver.recovery.is_some());
        driver.follow(&vassal.name, Arc::clone(&vassal), NewWorkers::IfNeeded);
        driver.settle();
        let app = &driver.apps[&vassal.name];
        assert_eq!(app.worker_processes().map(|(number, _)| number).collect::<Vec<_>>(), [1], "adopted once");
        assert!(driver.recovery.is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

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
        let _linked = UnixListener::bind(socket("blog/blog-3.sock")).unwrap();
        fs::hard_link(socket("blog/blog-3.sock"), socket("blog/blog-2.sock")).unwrap();
        let found = listeners(root.path());
        let names: Vec<String> = found.iter().map(|(worker, _)| worker.to_string()).collect();
        assert_eq!(names, ["blog-1"]);
    }
}
