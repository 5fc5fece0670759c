//! Reads everything, then binds, then serves until it is told to exit.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::{EmperordConfig, Layout};
use daemon::logging::Format;
use daemon::notify::Notify;
use daemon::notify::State::{Ready, Stopping};
use daemon::signals::{SignalEvent, Signals};
use rustix::process::{geteuid, getpid, set_child_subreaper};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::driver::Driver;
use crate::launch::{Cgroups, Launcher, ProcessLauncher, UnitLauncher};
use crate::lock::Lock;
use crate::messages::{Event, Events};
use crate::rpc;
use crate::state::State;
use crate::vassals::{FileEvent, Vassals};

/// How long running calls may take when emperord exits.
const CALLS_LIMIT: Duration = Duration::from_secs(1);

/// What starts the workers' processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Launch {
    /// emperord itself.
    #[default]
    Process,
    /// systemd: each worker is a unit of `workerd@.service`.
    Systemd,
}

/// Runs emperord until SIGTERM, which leaves the workers running, or until SIGINT or the operator shuts
/// everything down. Workers log in the same format.
///
/// # Errors
/// If something that it needs is missing or forbidden.
pub async fn run(config: EmperordConfig, log_format: Format, launch: Launch) -> anyhow::Result<()> {
    let signals = Signals::new().context("install signal handlers")?;
    let children = signal(SignalKind::child()).context("listen for SIGCHLD")?;
    let lock = Lock::take(&config.state)?;
    let front = make_folders(&config.run)?;
    let state = State::open(&config.state)?;
    ensure_vassals(&config.vassals, &state)?;
    let (changes, files) = follow(config.vassals.clone()).await?;
    let socket = config.socket.clone();
    let launcher = launcher(&config, log_format, launch)?;
    let tasks = TaskTracker::new();

    // The exit of a worker that was forked by a template is reported to the process that inherits it.
    set_child_subreaper(Some(getpid())).context("become the parent of orphaned processes")?;

    // Bind before the first worker starts, since it connects here. Calls are served once the routing table is
    // complete, since frontd would mistake a part of it for the whole.
    let listener = daemon::uds::listen(&socket)?;
    if launch == Launch::Process && geteuid().is_root() {
        open_to_apps(&config).context("allow the apps' users to reach emperord and their sockets")?;
    }
    tracing::info!(socket = %socket.display(), "listening");
    let (driver, events, received) = Driver::start(config, launcher, state, files, tasks.clone());
    tasks.spawn(pass_on_changes(changes, events.clone()));
    tasks.spawn(pass_on_signals(signals, events.clone()));
    tasks.spawn(pass_on_ends(children, events.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let server = tasks.spawn(rpc::serve(listener, events, tasks.clone(), front, stopped));
    let manager = Notify::from_env();
    manager.report(Ready);
    tasks.spawn(manager.clone().keep_alive());
    driver.run(received).await;
    manager.report(Stopping);

    drop(stop);
    let _cut = tokio::time::timeout(CALLS_LIMIT, server).await;
    // The lock is still held, so no other emperord has put its own socket there.
    let _removed_by_hand = fs::remove_file(&socket);
    drop(lock);
    tracing::info!("ended");
    Ok(())
}

fn launcher(
    config: &EmperordConfig,
    log_format: Format,
    launch: Launch,
) -> anyhow::Result<Arc<dyn Launcher>> {
    let (socket, sockets) = (config.socket.clone(), config.run.join("workers"));
    let unit_has = Layout::system().emperord_socket();
    Ok(match launch {
        Launch::Process => {
            let (workerd, cgroups) = (config.workerd.clone(), Cgroups::default());
            cgroups.settle();
            Arc::new(ProcessLauncher { workerd, socket, sockets, log_format, cgroups })
        }
        Launch::Systemd if socket == unit_has => Arc::new(UnitLauncher::new(sockets)),
        Launch::Systemd => anyhow::bail!(
            "start workers as units: workerd@.service has {}, and emperord.toml {}: leave `run` out of it",
            unit_has.display(),
            socket.display()
        ),
    })
}

/// If the folder has vanished while its apps run, for example because it isn't mounted, none of them is
/// stopped.
fn ensure_vassals(folder: &Path, state: &State) -> anyhow::Result<()> {
    anyhow::ensure!(
        folder.exists() || state.workers().is_empty(),
        "watch {}: the folder doesn't exist, but workers were started from it: restore it, or create an empty \
         one to stop them",
        folder.display()
    );
    Ok(())
}

/// Creates the folders. Returns the group of the workers' sockets, which is frontd's if the folder was given
/// to its group.
fn make_folders(run: &Path) -> anyhow::Result<u32> {
    let folder = run.join("workers");
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(&folder);
    made.and_then(|()| folder.metadata())
        .map(|it| it.gid())
        .with_context(|| format!("make folder {}", folder.display()))
}

/// Lets workers that run as their apps' users reach emperord's socket and their own folders. Each call checks
/// its caller. Nobody else can list the folders.
fn open_to_apps(config: &EmperordConfig) -> io::Result<()> {
    for (path, mode) in [(&config.run, 0o711), (&config.run.join("workers"), 0o751), (&config.socket, 0o666)]
    {
        let before = path.metadata()?.permissions().mode() & 0o7777;
        fs::set_permissions(path, Permissions::from_mode(before | mode))?;
    }
    Ok(())
}

/// Follows the folder of the apps' files on its own thread, since reading a file accesses the folders that it
/// names: if one of those hangs, only this thread does. Returns the receiver of changes, and the current
/// files.
async fn follow(folder: PathBuf) -> anyhow::Result<(mpsc::Receiver<FileEvent>, Vec<FileEvent>)> {
    let (opened, files) = oneshot::channel();
    let (sender, changes) = mpsc::channel(64);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    let follow = async move {
        let mut vassals = match Vassals::open(&folder) {
            Ok((vassals, files)) => {
                let _ended = opened.send(Ok(files));
                vassals
            }
            Err(error) => return drop(opened.send(Err(error))),
        };
        loop {
            for change in vassals.changes().await {
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("vassals".to_owned());
    thread
        .spawn(move || runtime.block_on(follow))
        .context("start the thread that watches the apps' files")?;
    Ok((changes, files.await.context("read the apps' files")??))
}

async fn pass_on_changes(mut changes: mpsc::Receiver<FileEvent>, events: Events) {
    while let Some(change) = changes.recv().await {
        if events.send(Event::File(change)).await.is_err() {
            return;
        }
    }
}

async fn pass_on_ends(mut children: Signal, events: Events) {
    while children.recv().await.is_some() && events.send(Event::ChildEnded).await.is_ok() {}
}

async fn pass_on_signals(mut signals: Signals, events: Events) {
    loop {
        match signals.next().await {
            SignalEvent::Stop => {
                tracing::info!("stopping: workers keep running");
                return drop(events.send(Event::Stop).await);
            }
            // `imperium up` sends it, and so does the kernel when `up` is killed: nothing must be left
            // running.
            SignalEvent::Interrupt => {
                let (reply, _nobody_waits) = oneshot::channel();
                drop(events.send(Event::Shutdown { reply }).await);
            }
            SignalEvent::Reload => {
                tracing::info!("ignoring SIGHUP: files are read whenever they change");
            }
        }
    }
}
