//! Starts that fail without a word of the worker, as a developer and an operator are told of them.

use config::emperord::Mode;
use rustix::process::Signal;
use supervise::Phase;

use super::emperor::{self, Emperor, Root, Worker};
use super::log::Log;
use crate::driver::Reason;
use crate::process::Process;
use crate::routes::RouteState;

/// Waits until clients are shown an error in place of the app.
async fn shown(emperor: &Emperor) -> String {
    loop {
        let mut watch = emperor.watch().await;
        if let Some(failure) = watch.routes.first().and_then(|it| it.failure.clone()) {
            return failure.to_string();
        }
        watch.changes.recv().await.unwrap();
    }
}

fn developers() -> Root {
    let mut root = Root::new();
    root.run_for(Mode::Development);
    root
}

#[tokio::test]
async fn a_process_killed_by_a_signal_is_reported_with_its_name() {
    for (signal, name) in [(Signal::SEGV, "SIGSEGV"), (Signal::KILL, "SIGKILL")] {
        let root = developers();
        root.write("blog", 1, "");
        let emperor = Emperor::start(&root);
        let worker = Worker::attach(&emperor, "blog", 1).await;
        Process::open(worker.pid).unwrap().signal(signal);
        assert_eq!(
            shown(&emperor).await.trim_end(),
            format!("a worker was killed by {name} before it was ready")
        );
    }
}

#[tokio::test]
async fn requests_do_not_wait_for_an_app_whose_process_crashes() {
    let root = developers();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    assert_eq!(emperor.watch().await.routes[0].state, RouteState::Starting);
    Worker::attach(&emperor, "blog", 1).await.kill();
    shown(&emperor).await;
    assert_eq!(emperor.watch().await.routes[0].state, RouteState::Failed);
}

#[tokio::test]
async fn a_start_that_times_out_is_reported_with_its_limit() {
    let root = developers();
    root.write("blog", 1, "timeouts = { start = \"1s\" }\n");
    let emperor = Emperor::start(&root);
    let told = shown(&emperor).await;
    assert!(told.starts_with("a worker was not ready within 1 s: see what its start waits for"), "{told}");
    let status = emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
    assert!(status.last_error.starts_with("worker blog-1 was not ready within 1 s"), "{}", status.last_error);
}

#[tokio::test]
async fn an_error_is_not_shown_while_a_worker_of_the_same_version_serves() {
    let log = Log::capture();
    let root = developers();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    Worker::attach(&emperor, "blog", 2).await.kill();
    let status = emperor.app_until("blog", |it| it.last_error.contains("SIGKILL before it was ready")).await;
    assert_ne!(status.phase, Phase::Failed);
    assert_eq!(emperor.watch().await.routes[0].failure, None);
    let told = log.lines_with("A worker can't start: a worker was killed by SIGKILL");
    assert!(told.len() == 1 && told[0].contains("WARN"), "{}", log.text());
    assert!(!log.text().contains("The app can't start"), "{}", log.text());
}

#[tokio::test]
async fn the_error_of_a_worker_is_told_again_once_the_whole_app_fails() {
    let log = Log::capture();
    let root = developers();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    let serving = Worker::attach(&emperor, "blog", 1).await;
    serving.ready().await;
    let failing = Worker::attach(&emperor, "blog", 2).await;
    failing.fails(Reason::Import, "oh no", "").await;
    serving.kill();
    let first = serving.pid;
    emperor.app_until("blog", |it| it.workers.iter().any(|it| it.name.number == 1 && it.pid != first)).await;
    Worker::attach(&emperor, "blog", 1).await.fails(Reason::Import, "oh no", "").await;
    assert!(shown(&emperor).await.starts_with("oh no"));
    for told in ["A worker can't start: oh no", "The app can't start: oh no"] {
        assert_eq!(log.lines_with(told).len(), 1, "{told}:\n{}", log.text());
    }
}

#[tokio::test]
async fn a_failure_names_its_app_if_there_are_several() {
    for (apps, is_named) in [(&["blog"] as &[_], false), (&["blog", "shop"], true)] {
        let log = Log::capture();
        let root = developers();
        for app in apps {
            root.write(app, 1, "");
        }
        let emperor = Emperor::start(&root);
        emperor.until(|status| status.apps.len() == apps.len()).await;
        Worker::attach(&emperor, "blog", 1).await.kill();
        assert!(shown(&emperor).await.contains("SIGKILL"));
        let told = log.lines_with("The app can't start: a worker was killed by SIGKILL");
        assert!(told.len() == 1 && told[0].contains("app=\"blog\"") == is_named, "{}", log.text());
    }
}

#[tokio::test]
async fn an_app_counts_as_failed_while_clients_see_an_error() {
    let root = developers();
    let folder = root.write_in_folder("blog", "[reload]\nwatch = true\n");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor::edit(&folder.join("app.py"), "app = (").await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Source, "SyntaxError: '(' was never closed", "").await;
    broken.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    let is_told = |it: &String| it.contains("clients are shown the error, and the next try is when");
    emperor.app_until("blog", |it| it.notices.iter().any(is_told)).await;
    assert!(status.workers.iter().any(|it| it.name.number == 1), "the old worker waits for the next edit");
}
