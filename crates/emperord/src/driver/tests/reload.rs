//! Apps that reload when their source files change.

use supervise::Phase;

use super::emperor::{self, Emperor, Root, Worker, pids};
use super::log::Log;
use crate::messages::Command;
use crate::spec::Reason;

const WATCH: &str = "[reload]\nwatch = true\n";

#[tokio::test]
async fn an_edit_starts_new_workers_before_the_old_ones_stop() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", WATCH);
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach(&emperor, "blog", 1).await;
    old.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor::edit(&folder.join("app.py"), "").await;
    let new = Worker::attach(&emperor, "blog", 2).await;
    let status = emperor.app_until("blog", |it| it.phase == Phase::Reloading).await;
    assert_eq!((status.generation, pids(&status)[0]), (2, old.pid));
    new.ready().await;
    while !matches!(old.commands.recv().await, Some(Command::Drain(_))) {}
    old.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Running && pids(it) == [new.pid]).await;
}

#[tokio::test]
async fn a_broken_edit_keeps_the_old_worker_and_the_next_edit_recovers() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", WATCH);
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach(&emperor, "blog", 1).await;
    old.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor::edit(&folder.join("app.py"), "app = (").await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Source, "SyntaxError: '(' was never closed", "Traceback").await;
    broken.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running && !it.notices.is_empty()).await;
    assert_eq!(pids(&status), [old.pid]);
    assert!(status.last_error.contains("SyntaxError"), "{}", status.last_error);
    // Only the next save starts another attempt.
    emperor::edit(&folder.join("app.py"), "app = ()").await;
    Worker::attach(&emperor, "blog", 2).await.ready().await;
    while !matches!(old.commands.recv().await, Some(Command::Drain(_))) {}
    old.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running && it.workers.len() == 1).await;
    assert_eq!((status.generation, status.last_error.as_str()), (3, ""));
}

#[tokio::test]
async fn a_first_version_that_does_not_start_is_retried_after_a_save() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", WATCH);
    let emperor = Emperor::start(&root);
    let broken = Worker::attach(&emperor, "blog", 1).await;
    broken.fails(Reason::Source, "SyntaxError: oh no", "").await;
    broken.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    emperor::edit(&folder.join("app.py"), "app = ()").await;
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running && it.last_error.is_empty()).await;
}

#[tokio::test]
async fn errors_in_the_vassal_file_are_still_reported_after_a_reload() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", WATCH);
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    root.write_in_folder("blog", "wokers = 3\n");
    emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
    emperor::edit(&folder.join("app.py"), "app = ()").await;
    let status = emperor.app_until("blog", |it| it.generation == 2).await;
    assert!(status.last_error.contains("wokers"), "{}", status.last_error);
}

#[tokio::test]
async fn edits_are_ignored_without_reload_watch() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", "");
    let watched = root.write_in_folder("shop", WATCH);
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    Worker::attach(&emperor, "shop", 1).await.ready().await;
    emperor::edit(&folder.join("app.py"), "").await;
    emperor::edit(&watched.join("app.py"), "").await;
    emperor.app_until("shop", |it| it.generation == 2).await;
    emperor.app_until("blog", |it| it.generation == 1 && it.phase == Phase::Running).await;
}

#[tokio::test]
async fn a_later_start_of_a_version_that_failed_is_not_told_as_a_reload() {
    let log = Log::capture();
    let root = Root::new();
    let folder = root.write_in_folder("blog", WATCH);
    let emperor = Emperor::start(&root);
    let first = Worker::attach(&emperor, "blog", 1).await;
    first.fails(Reason::Source, "SyntaxError: oh no", "").await;
    first.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    emperor::edit(&folder.join("app.py"), "app = 1").await;
    // It fails for another reason than its text, and is retried by itself.
    let edited = Worker::attach(&emperor, "blog", 1).await;
    edited.kill();
    emperor.app_until("blog", |it| it.workers.first().is_some_and(|it| it.pid != edited.pid)).await;
    let retried = Worker::attach(&emperor, "blog", 1).await;
    retried.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!(log.lines_with("reloaded in").len(), 0, "{}", log.text());

    emperor::edit(&folder.join("app.py"), "app = ()").await;
    Worker::attach(&emperor, "blog", 2).await.ready().await;
    retried.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Running && it.workers.len() == 1).await;
    assert_eq!(log.lines_with("reloaded in").len(), 1, "{}", log.text());
}
