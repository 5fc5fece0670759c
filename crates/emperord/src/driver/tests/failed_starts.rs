//! Starts that fail without a word of the worker, as a developer and an operator are told of them.

use config::emperord::Mode;
use rustix::process::Signal;
use supervise::Phase;

use super::emperor::{Emperor, Root, Worker};
use crate::driver::Reason;
use crate::process::Process;

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
    let root = developers();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    Worker::attach(&emperor, "blog", 2).await.kill();
    let status = emperor.app_until("blog", |it| it.last_error.contains("SIGKILL before it was ready")).await;
    assert_ne!(status.phase, Phase::Failed);
    assert_eq!(emperor.watch().await.routes[0].failure, None);
}

#[tokio::test]
async fn an_app_counts_as_failed_while_clients_see_an_error() {
    let root = developers();
    let folder = root.write_in_folder("blog", "[reload]\nwatch = true\n");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    std::fs::write(folder.join("app.py"), "app = (").unwrap();
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Source, "SyntaxError: '(' was never closed", "").await;
    broken.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    let is_told = |it: &String| it.contains("clients are shown the error, and the next try is when");
    emperor.app_until("blog", |it| it.notices.iter().any(is_told)).await;
    assert!(status.workers.iter().any(|it| it.name.number == 1), "the old worker waits for the next edit");
}
