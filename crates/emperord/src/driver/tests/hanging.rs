//! Disks, networks and user databases that hang: only lookups that use them wait.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::WorkerName;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use supervise::Phase;
use tokio::sync::oneshot::error::TryRecvError;
use vassal::Vassal;

use super::emperor::{Emperor, Root, Worker, pids};
use crate::launch::{Job, LaunchError, Launcher, Prepared, ProcessLauncher, Start};
use crate::messages::AppStatus;
use crate::pidfd::Process;
use crate::routes::RouteState;

/// Starts processes as usual. For an app named `stuck`, it first blocks in the kernel until the test releases
/// it: it opens a FIFO without a writer.
struct Hanging {
    fork: ProcessLauncher,
    fifo: PathBuf,
    is_over: Arc<AtomicBool>,
    admits: bool,
}

impl Hanging {
    fn new(root: &Root, admits: bool) -> (Arc<Self>, Release) {
        let fifo = root.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let release = Release { fifo: fifo.clone(), is_over: Arc::clone(&is_over) };
        (Arc::new(Self { fork: root.launcher(), fifo, is_over, admits }), release)
    }

    fn hang(&self, vassal: &Vassal) {
        if vassal.name.as_str() == "stuck" && !self.is_over.load(Ordering::SeqCst) {
            let _end_of_file = fs::read(&self.fifo);
        }
    }
}

impl Launcher for Hanging {
    fn admit(&self, vassal: &Vassal) -> Result<Option<u32>, String> {
        if !self.admits {
            self.hang(vassal);
        }
        self.fork.admit(vassal)
    }

    fn prepare(&self, vassal: &Vassal) -> Result<Prepared, LaunchError> {
        self.hang(vassal);
        self.fork.prepare(vassal)
    }

    fn start(&self, worker: &WorkerName, vassal: &Vassal, prepared: &Prepared) -> Result<Start, LaunchError> {
        self.fork.start(worker, vassal, prepared)
    }

    fn stop(&self, worker: &WorkerName, process: Option<&Process>) -> Option<Job> {
        self.fork.stop(worker, process)
    }
}

/// Releases all blocked calls, also at the end of a failed test, since its runtime waits for their threads.
struct Release {
    fifo: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Unblocks everything that waits for a writer.
        let _writer = File::options().read(true).write(true).open(&self.fifo);
    }
}

fn is_reported(app: &AppStatus) -> bool {
    app.notices.iter().any(|it| it.starts_with("waiting for "))
}

/// Checks that another app is still supervised.
async fn blog_is_supervised(root: &Root, emperor: &Emperor) {
    let first = Worker::attach(emperor, "blog", 1).await;
    first.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    first.kill();
    let pid = first.pid;
    emperor.app_until("blog", |it| it.workers.iter().any(|it| it.pid != pid)).await;
    root.write("blog", 1, "threads = 2\n");
    emperor.app_until("blog", |it| it.generation == 2).await;
}

#[tokio::test]
async fn a_hanging_user_lookup_delays_no_other_app() {
    let root = Root::new();
    root.write("blog", 1, "");
    root.write("stuck", 1, "");
    let (launcher, release) = Hanging::new(&root, false);
    let emperor = Emperor::start_with(&root, launcher);
    // The routing table isn't held back forever.
    let watch = emperor.watch().await;
    assert_eq!(watch.routes.len(), 1, "{:?}", watch.routes);
    // Nothing has failed so far, and a reload waits like everything else.
    let mut reloaded = emperor.reload("stuck").await;
    assert!(matches!(reloaded.try_recv(), Err(TryRecvError::Empty)));
    let first = emperor.app_until("stuck", |_| true).await;
    assert_eq!((first.phase, first.last_error.as_str()), (Phase::Starting, ""));
    let status = emperor.app_until("stuck", is_reported).await;
    assert_eq!(status.phase, Phase::Starting);
    assert!(status.notices[0].contains("to be looked up") || status.notices[0].contains("the owner of "));
    blog_is_supervised(&root, &emperor).await;
    // The file is followed once the lookup is answered.
    drop(release);
    Worker::attach(&emperor, "stuck", 1).await.ready().await;
    emperor.app_until("stuck", |it| it.phase == Phase::Running && !is_reported(it)).await;
    assert_eq!(reloaded.await.unwrap(), Ok(()));
}

/// Starts processes as usual, but panics for an app named `stuck`.
struct Panicking(ProcessLauncher);

impl Launcher for Panicking {
    fn admit(&self, vassal: &Vassal) -> Result<Option<u32>, String> {
        assert_ne!(vassal.name.as_str(), "stuck", "the test makes it panic");
        self.0.admit(vassal)
    }

    fn prepare(&self, vassal: &Vassal) -> Result<Prepared, LaunchError> {
        self.0.prepare(vassal)
    }

    fn start(&self, worker: &WorkerName, vassal: &Vassal, prepared: &Prepared) -> Result<Start, LaunchError> {
        self.0.start(worker, vassal, prepared)
    }

    fn stop(&self, worker: &WorkerName, process: Option<&Process>) -> Option<Job> {
        self.0.stop(worker, process)
    }
}

#[tokio::test]
async fn a_lookup_that_panics_is_an_error() {
    let root = Root::new();
    root.write("blog", 1, "");
    root.write("stuck", 1, "");
    let emperor = Emperor::start_with(&root, Arc::new(Panicking(root.launcher())));
    let status = emperor.app_until("stuck", |it| !it.last_error.is_empty()).await;
    let error = status.last_error;
    assert!(error.contains("emperord has a bug") && error.contains("the test makes it panic"), "{error}");
    // The table is complete without it.
    assert_eq!(emperor.watch().await.routes.len(), 1);
    blog_is_supervised(&root, &emperor).await;
}

#[tokio::test]
async fn a_hanging_start_delays_no_other_app_and_no_shutdown() {
    let root = Root::new();
    root.write("blog", 1, "");
    root.write("stuck", 3, "");
    let (launcher, release) = Hanging::new(&root, true);
    let emperor = Emperor::start_with(&root, launcher);
    let status = emperor.app_until("stuck", is_reported).await;
    assert_eq!((status.phase, pids(&status).len()), (Phase::Starting, 0));
    assert_eq!(status.notices.iter().filter(|it| it.starts_with("waiting for ")).count(), 1, "asked once");
    blog_is_supervised(&root, &emperor).await;
    // The start has no effect once the app is gone.
    root.delete("stuck");
    emperor.until(|status| status.apps.iter().all(|it| it.name != "stuck")).await;
    let answer = emperor.shutdown().await;
    answer.await.unwrap();
    drop(release);
}

#[tokio::test]
async fn the_routing_table_waits_for_all_files() {
    let root = Root::new();
    for app in ["a", "b", "c"] {
        root.write(app, 1, "");
    }
    let emperor = Emperor::start(&root);
    let states: Vec<_> = emperor.watch().await.routes.iter().map(|it| it.state).collect();
    assert_eq!(states, [RouteState::Starting; 3]);
}
