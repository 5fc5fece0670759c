//! An emperord in a temporary folder, and workers that are played by the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::{VassalName, WorkerName};
use config::emperord::Mode;
use config::{EmperordConfig, Layout};
use daemon::logging::Format;
use rustix::process::Signal;
use supervise::DrainOrder;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::driver::Driver;
use crate::launch::{Cgroups, Launcher, ProcessLauncher};
use crate::messages::{
    AdminError, AppStatus, Attaching, AttachmentId, Command, Event, Events, Load, Served, SpecError, Status,
    Taking,
};
use crate::pidfd::{Caller, Identity, Process};
use crate::routes::Watch;
use crate::spec::{Failure, Reason, WorkerSpec};
use crate::state::Interface;
use crate::state::State;
use crate::vassals::Vassals;

/// A folder with vassals and state. Its processes are killed on drop.
pub(crate) struct Root {
    folder: TempDir,
    config: EmperordConfig,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// Creates a folder that all users can reach, but only root can write, including its parents.
    pub(super) fn open_to_all() -> Self {
        let folder = tempfile::Builder::new().prefix("imperium-test-").tempdir_in("/var/lib").unwrap();
        let root = Self::within(folder);
        let sockets = root.config.run.join("workers");
        fs::create_dir_all(&sockets).unwrap();
        for folder in [root.path(), &root.config.run, &sockets] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        root
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes an app in this folder, whose file doesn't set a user.
    pub(super) fn write_without_user(&self, app: &str, directory: &Path, more: &str) {
        let directory = directory.display();
        let text = format!(
            "domains = ['{app}.example']\napp = 'a:a'\ndirectory = '{directory}'\nworkers = 1\n{more}"
        );
        self.write_text(app, &text);
    }

    fn within(folder: TempDir) -> Self {
        let program = folder.path().join("workerd");
        fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let config = EmperordConfig::new(&Layout::under(folder.path()).unwrap(), &program);
        fs::create_dir_all(&config.vassals).unwrap();
        Self { folder, config }
    }

    pub(crate) fn write(&self, app: &str, workers: u16, more: &str) {
        let domain = format!("{app}.example");
        self.write_text(app, &format!("{}{more}", text(&domain, workers)));
    }

    pub(super) fn write_at(&self, app: &str, domain: &str, workers: u16) {
        self.write_text(app, &text(domain, workers));
    }

    /// Writes an app with its own folder, which is created.
    pub(super) fn write_in_folder(&self, app: &str, more: &str) -> PathBuf {
        let folder = self.folder.path().join(app);
        fs::create_dir_all(&folder).unwrap();
        let text = text(&format!("{app}.example"), 1);
        self.write_text(app, &format!("{}{more}", text.replace("\"/\"", &format!("{folder:?}"))));
        folder
    }

    /// Replaces the folder of the apps' files with an empty one.
    pub(super) fn replace_vassals(&self) {
        let fresh = self.folder.path().join("other-vassals");
        fs::create_dir(&fresh).unwrap();
        fs::remove_dir_all(&self.config.vassals).unwrap();
        fs::rename(fresh, &self.config.vassals).unwrap();
    }

    /// A driver without apps that handles no events.
    pub(crate) fn driver(&self, launcher: Arc<dyn Launcher>) -> Driver {
        let state = State::open(&self.config.state).unwrap();
        Driver::start(self.config.clone(), launcher, state, Vec::new(), TaskTracker::new()).0
    }

    /// The launcher that emperord uses.
    pub(super) fn launcher(&self) -> ProcessLauncher {
        launcher(&self.config)
    }

    /// Sets how many processes may start at once.
    pub(super) fn limit_starts(&mut self, limit: usize) {
        self.config.concurrent_starts = limit;
    }

    /// Sets production or development mode.
    pub(super) fn run_for(&mut self, mode: Mode) {
        self.config.mode = mode;
    }

    pub(crate) fn delete(&self, app: &str) {
        fs::remove_file(self.file(app)).unwrap();
    }

    pub(super) fn read(&self, app: &str) -> String {
        fs::read_to_string(self.file(app)).unwrap()
    }

    /// Moves the folder of the sockets.
    pub(super) fn move_run_to(&mut self, folder: &str) {
        self.config.run = self.folder.path().join(folder);
    }

    /// Removes or damages the workers' file.
    pub(super) fn lose_workers(&self, text: Option<&str>) {
        let path = self.config.state.join("workers.json");
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// Removes the last valid version.
    pub(super) fn forget_good_version(&self, app: &str) {
        State::open(&self.config.state).unwrap().forget_version(&name(app));
    }

    fn write_text(&self, app: &str, text: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.file(app)).unwrap();
    }

    fn file(&self, app: &str) -> PathBuf {
        self.config.vassals.join(format!("{app}.toml"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let Ok(state) = State::open(&self.config.state) else { return };
        for process in state.workers().iter().filter_map(|it| Process::of(it.identity)) {
            process.signal(Signal::KILL);
        }
    }
}

fn text(domain: &str, workers: u16) -> String {
    // Root runs an app as root only if its file says so.
    let user = if rustix::process::geteuid().is_root() { "user = \"root\"\n" } else { "" };
    format!("domains = [\"{domain}\"]\napp = \"a:a\"\ndirectory = \"/\"\nworkers = {workers}\n{user}")
}

fn launcher(config: &EmperordConfig) -> ProcessLauncher {
    let sockets = config.run.join("workers");
    ProcessLauncher {
        workerd: config.workerd.clone(),
        socket: config.socket.clone(),
        sockets,
        log_format: Format::Text,
        cgroups: Cgroups::default(),
    }
}

/// A running emperord.
pub(crate) struct Emperor {
    events: Events,
    driver: JoinHandle<()>,
}

impl Emperor {
    pub(crate) fn start(root: &Root) -> Self {
        Self::start_with(root, Arc::new(launcher(&root.config)))
    }

    /// Starts it with another launcher.
    pub(super) fn start_with(root: &Root, launcher: Arc<dyn Launcher>) -> Self {
        let tasks = TaskTracker::new();
        let config = root.config.clone();
        let state = State::open(&config.state).unwrap();
        let (mut vassals, files) = Vassals::open(&config.vassals).unwrap();
        let (mut driver, events, received) = Driver::start(config, launcher, state, files, tasks.clone());
        driver.tell_after(Duration::from_millis(200));
        let changes = events.clone();
        tasks.spawn(async move {
            loop {
                for change in vassals.changes().await {
                    let _ended = changes.send(Event::File(change)).await;
                }
            }
        });
        Self { events, driver: tasks.spawn(driver.run(received)) }
    }

    /// Returns the sender of events.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Stops it without its workers.
    pub(super) async fn stop(self) {
        self.events.send(Event::Stop).await.unwrap();
        self.ended().await;
    }

    pub(super) async fn ended(self) {
        self.driver.await.unwrap();
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> T {
        self.begin(event).await.await.unwrap()
    }

    async fn begin<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.unwrap();
        answer
    }

    pub(super) async fn watch(&self) -> Watch {
        self.ask(|reply| Event::Watch { reply }).await
    }

    pub(super) async fn spec(&self, app: &str, number: u16, pid: u32) -> Result<WorkerSpec, SpecError> {
        self.spec_for(app, number, caller(pid)).await
    }

    pub(super) async fn spec_for(
        &self,
        app: &str,
        number: u16,
        caller: Caller,
    ) -> Result<WorkerSpec, SpecError> {
        self.ask(|reply| Event::GetSpec { worker: worker(app, number), caller, reply }).await
    }

    pub(super) async fn scale(&self, app: &str, workers: u32) -> oneshot::Receiver<Result<(), AdminError>> {
        self.begin(|reply| Event::Scale { app: name(app), workers, reply }).await
    }

    pub(super) async fn reload(&self, app: &str) -> oneshot::Receiver<Result<(), AdminError>> {
        self.begin(|reply| Event::Reload { app: name(app), reply }).await
    }

    pub(super) async fn forget(&self, apps: &[&str]) -> Result<Vec<VassalName>, AdminError> {
        let apps = apps.iter().map(|it| name(it)).collect();
        self.ask(|reply| Event::Forget { apps, reply }).await
    }

    pub(super) async fn shutdown(&self) -> oneshot::Receiver<()> {
        self.begin(|reply| Event::Shutdown { reply }).await
    }

    /// Waits until the status satisfies `reached`.
    pub(crate) async fn until(&self, reached: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let status = self.ask(|reply| Event::Status { reply }).await;
                if reached(&status) {
                    return status;
                }
                last = Some(status);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("still {last:#?}"))
    }

    pub(crate) async fn app_until(&self, app: &str, reached: impl Fn(&AppStatus) -> bool) -> AppStatus {
        let find = |status: &Status| status.apps.iter().find(|it| it.name == app).cloned();
        find(&self.until(|status| find(status).is_some_and(|it| reached(&it))).await).unwrap()
    }
}

pub(super) fn pids(app: &AppStatus) -> Vec<u32> {
    app.workers.iter().map(|it| it.pid).collect()
}

/// A worker that is played by the test.
pub(super) struct Worker<'a> {
    emperor: &'a Emperor,
    name: WorkerName,
    pub(super) pid: u32,
    pub(super) commands: mpsc::Receiver<Command>,
}

const STREAM: AttachmentId = AttachmentId(7);

impl<'a> Worker<'a> {
    /// Attaches as the process of that name, once it was started.
    pub(super) async fn attach(emperor: &'a Emperor, app: &str, number: u16) -> Self {
        Self::attach_as(emperor, app, number, started(emperor, app, number).await).await
    }

    /// Same, but the process already serves.
    pub(super) async fn attach_serving(emperor: &'a Emperor, app: &str, number: u16) -> Self {
        let pid = started(emperor, app, number).await;
        Self::attach_with(emperor, app, number, pid, Some(served(number)), Taking::Requests).await
    }

    /// Same, for any process.
    pub(super) async fn attach_serving_as(emperor: &'a Emperor, app: &str, number: u16, pid: u32) -> Self {
        Self::attach_with(emperor, app, number, pid, Some(served(number)), Taking::Requests).await
    }

    /// Same, but the process drains already.
    pub(super) async fn attach_draining(emperor: &'a Emperor, app: &str, number: u16) -> Self {
        let pid = started(emperor, app, number).await;
        Self::attach_with(emperor, app, number, pid, Some(served(number)), Taking::NothingMore).await
    }

    /// Attaches as any process.
    pub(super) async fn attach_as(emperor: &'a Emperor, app: &str, number: u16, pid: u32) -> Self {
        Self::attach_with(emperor, app, number, pid, None, Taking::Requests).await
    }

    async fn attach_with(
        emperor: &'a Emperor,
        app: &str,
        number: u16,
        pid: u32,
        served: Option<Served>,
        taking: Taking,
    ) -> Self {
        let (sender, commands) = mpsc::channel(8);
        let name = worker(app, number);
        let attaching = Attaching {
            worker: name.clone(),
            caller: caller(pid),
            served,
            taking,
            attachment: STREAM,
            commands: sender,
        };
        emperor.events.send(Event::Attach(Box::new(attaching))).await.unwrap();
        // The reply comes after the attachment was handled: a process that the test then kills was alive when
        // it attached.
        emperor.ask(|reply| Event::Status { reply }).await;
        Self { emperor, name, pid, commands }
    }

    pub(super) async fn ready(&self) {
        let (worker, served) = (self.name.clone(), served(self.name.number));
        self.emperor.events.send(Event::Ready { worker, attachment: STREAM, served }).await.unwrap();
    }

    pub(super) async fn has_sockets(&self, sockets: u32) {
        let (worker, load) = (self.name.clone(), Load { sockets, ..Load::default() });
        self.emperor.events.send(Event::Load { worker, attachment: STREAM, load }).await.unwrap();
    }

    /// The next order to drain.
    pub(super) async fn drain_order(&mut self) -> DrainOrder {
        loop {
            if let Command::Drain(order) = self.commands.recv().await.unwrap() {
                return order;
            }
        }
    }

    pub(super) async fn fails(&self, reason: Reason, message: &str, traceback: &str) {
        let failure = Failure { reason, message: message.to_owned(), traceback: traceback.to_owned() };
        let worker = self.name.clone();
        self.emperor.events.send(Event::Failed { worker, attachment: STREAM, failure }).await.unwrap();
    }

    pub(super) fn kill(&self) {
        Process::open(self.pid).unwrap().signal(Signal::KILL);
    }
}

async fn started(emperor: &Emperor, app: &str, number: u16) -> u32 {
    let name = worker(app, number);
    let status = emperor.app_until(app, |it| it.workers.iter().any(|it| it.name == name)).await;
    status.workers.iter().find(|it| it.name == name).unwrap().pid
}

fn served(number: u16) -> Served {
    Served {
        instance: number.into(),
        capacity: 1,
        python: "CPython 3.11.7".to_owned(),
        interface: Interface::Wsgi,
        event_loop: String::new(),
    }
}

/// The process as the kernel reports it when it connects.
pub(super) fn caller(pid: u32) -> Caller {
    let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
    Caller { identity, uid: rustix::process::geteuid().as_raw() }
}

fn name(app: &str) -> VassalName {
    VassalName::parse(app).unwrap()
}

fn worker(app: &str, number: u16) -> WorkerName {
    WorkerName { vassal: name(app), number }
}

/// Writes a file so that it is newer than this moment. File systems stamp a change with the time of the kernel's last
/// tick, which may be a few milliseconds ago. A Python that takes longer to start reads such a change; the processes
/// of these tests don't.
pub(super) async fn edit(file: &Path, text: &str) {
    let now = SystemTime::now();
    let probe = tempfile::NamedTempFile::new().unwrap();
    while probe.as_file().metadata().unwrap().modified().unwrap() <= now {
        tokio::task::yield_now().await;
        fs::write(&probe, "x").unwrap();
    }
    fs::write(file, text).unwrap();
}
