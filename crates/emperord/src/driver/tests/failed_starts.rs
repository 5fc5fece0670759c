//! Starts that fail without a word of the worker, as a developer and an operator are told of them.

use config::emperord::Mode;
use rustix::process::Signal;
use supervise::Phase;

use super::emperor::{self, Emperor, Root, Worker};
use super::log::Log;
use crate::pidfd::Process;
use crate::routes::RouteState;
use crate::spec::Reason;

/// Waits until clients are shown an error in place of the app.
async fn shown(emperor: &Emperor) -> String {
    loop {
        let mut watch = emperor.watch().await;
        if let Some(failure) = watch.routes.first().and_then(|it| it.failure.clone()) {
            return failure.text.to_string();
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

#[tokio::test]
async fn an_app_that_recovers_without_a_save_is_told() {
    let log = Log::capture();
    let root = developers();
    root.write_in_folder("blog", "[reload]\nwatch = true\n");
    let emperor = Emperor::start(&root);
    let broken = Worker::attach(&emperor, "blog", 1).await;
    broken.fails(Reason::Import, "the database is down", "").await;
    broken.kill();
    emperor.app_until("blog", |it| it.workers.iter().any(|it| it.pid != broken.pid)).await;
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!(log.lines_with("the app has recovered, 1 worker").len(), 1, "{}", log.text());
    assert!(!log.text().contains("reloaded in"), "{}", log.text());
}

#[tokio::test]
async fn the_status_says_when_the_next_start_is() {
    for (reason, watch, next) in [
        (Reason::Source, "", "is when the app's own files change"),
        (Reason::Import, "", "is in 1 s"),
        (Reason::Import, "[reload]\nwatch = true\n", "is in 1 s, or when the app's own files change"),
    ] {
        let root = developers();
        root.write_in_folder("blog", watch);
        let emperor = Emperor::start(&root);
        let broken = Worker::attach(&emperor, "blog", 1).await;
        broken.fails(reason, "oh no", "").await;
        broken.kill();
        let status = emperor.app_until("blog", |it| it.workers.is_empty() && !it.notices.is_empty()).await;
        assert_eq!(status.notices, [format!("1 of 1 workers missing: the next start {next}")]);
    }
}

#[tokio::test]
async fn the_status_does_not_wait_for_an_edit_while_a_missing_worker_is_retried() {
    let root = Root::new();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Source, "oh no", "").await;
    broken.kill();
    let status = emperor.app_until("blog", |it| !it.notices.is_empty()).await;
    assert_eq!(status.notices, ["1 of 2 workers missing: the next start is in 1 s"]);
}

#[tokio::test]
async fn the_status_has_the_reason_of_a_failed_reload_once() {
    let root = developers();
    let folder = root.write_in_folder("blog", "[reload]\nwatch = true\n");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor::edit(&folder.join("app.py"), "app = (").await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Source, "oh no", "").await;
    broken.kill();
    let status = emperor.app_until("blog", |it| !it.notices.is_empty()).await;
    assert!(status.last_error.contains("oh no"), "{}", status.last_error);
    assert_eq!(
        status.notices,
        [
            "generation 2 did not start; clients are shown the error, and the next try is when the app's own files change"
        ]
    );
}

#[tokio::test]
async fn clients_are_told_what_happens_next() {
    for (reason, watch, next) in [
        (Reason::Source, "", "Imperium starts the app again when its files change"),
        (Reason::Import, "", "Imperium tries again by itself"),
        (
            Reason::System,
            "[reload]\nwatch = true\n",
            "Imperium tries again by itself, and at once when the app's files change",
        ),
    ] {
        let root = developers();
        root.write_in_folder("blog", watch);
        let emperor = Emperor::start(&root);
        Worker::attach(&emperor, "blog", 1).await.fails(reason, "oh no", "").await;
        shown(&emperor).await;
        let failure = emperor.watch().await.routes[0].failure.clone();
        assert_eq!(failure.map(|it| it.next), Some(next));
    }
}

/// A traceback shows lines of files that may have changed since, and addresses that differ in each process.
#[tokio::test]
async fn the_same_failure_is_told_once_however_its_traceback_looks() {
    let log = Log::capture();
    let root = developers();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let mut last = 0;
    for (line, address) in [("    import nothing\n", "0x7f01"), ("", "0xA1b2"), ("    \n    ^^^\n", "0x1")] {
        emperor.app_until("blog", |it| it.workers.first().is_some_and(|it| it.pid != last)).await;
        let broken = Worker::attach(&emperor, "blog", 1).await;
        let traceback = format!(
            "Traceback:\n  File \"app.py\", line 1, in <module>\n{line}ValueError: <App at {address}>\n"
        );
        broken.fails(Reason::Import, &format!("ValueError: <App at {address}>"), &traceback).await;
        broken.kill();
        last = broken.pid;
    }
    emperor.app_until("blog", |it| it.last_error.contains("<App at 0x1>")).await;
    assert_eq!(log.lines_with("The app can't start").len(), 1, "{}", log.text());
}
