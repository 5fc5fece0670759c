//! Starts that fail, are retried, and wait for their turn.

use std::time::Duration;

use supervise::{Phase, Stage};

use super::emperor::{self, Emperor, Root, Worker};
use crate::messages::AppStatus;
use crate::spec::Reason;

/// An app with one serving worker, whose reload couldn't start.
async fn abandoned(root: &Root) -> Emperor {
    root.write("blog", 1, "");
    let emperor = Emperor::start(root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    root.write("blog", 1, "threads = 2\n");
    let new = Worker::attach(&emperor, "blog", 2).await;
    new.fails(Reason::Source, "SyntaxError: oh no", "").await;
    new.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Running && !it.notices.is_empty()).await;
    emperor
}

#[tokio::test]
async fn after_an_abandoned_reload_killed_workers_run_the_working_version() {
    let root = Root::new();
    let emperor = abandoned(&root).await;
    Worker::attach_serving(&emperor, "blog", 1).await.kill();
    let replaced = |it: &AppStatus| it.workers.iter().any(|it| matches!(it.stage, Stage::Starting { .. }));
    let status = emperor.app_until("blog", replaced).await;
    assert_eq!((status.generation, status.workers[0].generation), (2, 1));
    let spec = emperor.spec("blog", 1, emperor::pids(&status)[0]).await.unwrap();
    assert_eq!(spec.vassal.threads, 1, "it runs the version that could not start");
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    let notice = "generation 2 did not start (worker blog-2 cannot run its app: SyntaxError: oh no); \
                  1 keeps serving, and the next try is when the app's own files change";
    assert_eq!(status.notices, [notice]);
}

#[tokio::test]
async fn the_next_emperord_knows_the_working_version() {
    let root = Root::new();
    let emperor = abandoned(&root).await;
    emperor.stop().await;

    let emperor = Emperor::start(&root);
    let new = Worker::attach(&emperor, "blog", 2).await;
    new.fails(Reason::Source, "SyntaxError: oh no", "").await;
    new.kill();
    emperor.app_until("blog", |it| !it.notices.is_empty()).await;
    let old = Worker::attach_serving(&emperor, "blog", 1).await;
    old.kill();
    let status = emperor.app_until("blog", |it| it.workers.iter().any(|it| it.pid != old.pid)).await;
    let worker = &status.workers[0];
    let spec = emperor.spec("blog", worker.name.number, worker.pid).await.unwrap();
    assert_eq!((worker.generation, spec.vassal.threads), (1, 1));
}

#[tokio::test]
async fn an_app_that_needs_an_edit_is_retried_when_its_source_files_change() {
    let root = Root::new();
    let folder = root.write_in_folder("blog", "python = \"/bin/true\"\n");
    emperor::edit(&folder.join("a.py"), "a = (").await;
    let emperor = Emperor::start(&root);
    let worker = Worker::attach(&emperor, "blog", 1).await;
    worker.fails(Reason::Source, "SyntaxError: oh no", "").await;
    worker.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    assert!(status.notices[0].ends_with("the next start is when the app's own files change"), "{status:?}");
    emperor::edit(&folder.join("a.py"), "a = ()").await;
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!((status.generation, status.last_error.as_str(), status.notices.len()), (1, "", 0));
}

#[tokio::test]
async fn an_app_that_cannot_be_imported_is_retried_automatically() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let worker = Worker::attach(&emperor, "blog", 1).await;
    worker.fails(Reason::Import, "OperationalError: no database", "").await;
    worker.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::BackingOff).await;
    assert_eq!(status.notices, ["1 of 1 workers missing: the next start is in 1 s"]);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!((status.generation, status.last_error.as_str()), (1, ""));
}

#[tokio::test]
async fn the_error_of_the_previous_version_is_hidden_while_the_next_one_starts() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let worker = Worker::attach(&emperor, "blog", 1).await;
    worker.fails(Reason::Source, "SyntaxError: oh no", "").await;
    worker.kill();
    emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    root.write("blog", 1, "threads = 2\n");
    let status = emperor.app_until("blog", |it| it.generation == 2).await;
    assert_eq!((status.phase, status.last_error.as_str()), (Phase::Starting, ""));
}

/// Six apps, two concurrent starts: each gets its turn, and its start limit counts only from then.
#[tokio::test]
async fn starts_wait_for_their_turn() {
    let mut root = Root::new();
    root.limit_starts(2);
    let apps: Vec<String> = (1..=6).map(|number| format!("app{number}")).collect();
    for app in &apps {
        root.write(app, 1, "[timeouts]\nstart = \"20s\"\n");
    }
    let emperor = Emperor::start(&root);
    let mut waiting: Vec<_> = apps.iter().collect();
    while !waiting.is_empty() {
        let status = emperor.until(|it| it.apps.iter().any(|it| starting(it) > 0)).await;
        let now: usize = status.apps.iter().map(starting).sum();
        assert!(now <= 2, "{now} start at once: {status:#?}");
        let next = status.apps.iter().find(|it| starting(it) > 0).unwrap().name.clone();
        tokio::time::timeout(Duration::from_secs(20), async {
            Worker::attach(&emperor, &next, 1).await.ready().await;
        })
        .await
        .unwrap();
        emperor.app_until(&next, |it| it.phase == Phase::Running).await;
        waiting.retain(|it| **it != next);
    }
}

fn starting(app: &AppStatus) -> usize {
    app.workers.iter().filter(|it| matches!(it.stage, Stage::Starting { .. })).count()
}
