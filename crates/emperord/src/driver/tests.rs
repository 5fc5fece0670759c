//! Tests of the driver with real processes, folders and state files. The test sends the workers' messages.

pub(crate) mod emperor;
mod failed_starts;
mod hanging;
mod log;
pub(super) mod manager;
mod missing;
mod orders;
mod owner;
mod preparations;
mod reload;
mod sockets;
mod starts;
mod survivors;

use config::emperord::Mode;
use supervise::{Phase, Stage};

use crate::messages::{AdminError, Command, SpecError};
use crate::pidfd::{Caller, Identity};
use crate::routes::{Changed, RouteState};
use crate::spec::Reason;
use emperor::{Emperor, Root, Worker, caller};

#[tokio::test]
async fn ready_workers_are_published() {
    let root = Root::new();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    let mut watch = emperor.watch().await;
    assert_eq!(watch.routes[0].state, RouteState::Starting);

    for number in 1..=2 {
        Worker::attach(&emperor, "blog", number).await.ready().await;
        let change = watch.changes.recv().await.unwrap();
        let Changed::Route(route) = change.what else { panic!("{change:?}") };
        assert_eq!((route.state, route.workers.len()), (RouteState::Serving, usize::from(number)));
        // At the assigned path.
        let socket = route.workers.last().unwrap().1.endpoint.to_string();
        assert!(socket.ends_with(&format!("/run/workers/blog/blog-{number}.sock")), "{socket}");
    }
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!((status.wanted, status.last_error.as_str()), (2, ""));
    assert!(status.workers.iter().all(|it| matches!(it.stage, Stage::Ready { .. })));
    assert!(status.workers.iter().all(|it| it.load.memory > 0));
}

#[tokio::test]
async fn an_app_that_cannot_be_imported_fails_with_its_traceback() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let worker = Worker::attach(&emperor, "blog", 1).await;
    worker.fails(Reason::Import, "No module named x", "Traceback\nImportError: x").await;
    worker.kill();
    let status = emperor.app_until("blog", |it| it.phase == Phase::BackingOff).await;
    let error = "worker blog-1 cannot run its app: No module named x\nTraceback\nImportError: x";
    assert_eq!(status.last_error, error);
    assert_eq!(emperor.watch().await.routes[0].state, RouteState::Failed);

    root.write("blog", 1, "# fixed\n");
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let status = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!((status.generation, status.last_error.as_str()), (2, ""));
}

#[tokio::test]
async fn a_killed_worker_is_replaced_by_the_driver() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let worker = Worker::attach(&emperor, "blog", 1).await;
    worker.ready().await;
    worker.kill();
    let pid = worker.pid;
    let status = emperor.app_until("blog", |it| it.workers.first().is_some_and(|it| it.pid != pid)).await;
    assert_eq!(status.workers.len(), 1);
}

#[tokio::test]
async fn the_next_emperord_adopts_the_same_processes_and_publishes_them_at_once() {
    let root = Root::new();
    root.write("blog", 2, "");
    let emperor = Emperor::start(&root);
    for number in 1..=2 {
        Worker::attach(&emperor, "blog", number).await.ready().await;
    }
    let before = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor.stop().await;

    let emperor = Emperor::start(&root);
    assert_eq!(emperor.watch().await.routes[0].workers.len(), 2);
    let after = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!(emperor::pids(&after), emperor::pids(&before));
    assert_eq!(after.generation, before.generation);
}

#[tokio::test]
async fn the_last_valid_version_serves_if_its_file_broke_while_emperord_was_down() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let before = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor.stop().await;

    root.write("blog", 1, "wokers = 3\n");
    let emperor = Emperor::start(&root);
    let after = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    assert_eq!(emperor::pids(&after), emperor::pids(&before));
    assert!(after.last_error.contains("unknown key `wokers`"), "{}", after.last_error);
    assert_eq!(emperor.watch().await.routes[0].workers.len(), 1);
}

#[tokio::test]
async fn workers_are_replaced_if_their_file_changed_while_emperord_was_down() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor.stop().await;

    root.write("blog", 1, "threads = 2\n");
    let emperor = Emperor::start(&root);
    emperor.app_until("blog", |it| it.phase == Phase::Reloading).await;
    let mut old = Worker::attach_serving(&emperor, "blog", 1).await;
    Worker::attach(&emperor, "blog", 2).await.ready().await;
    // It may also be told what it runs.
    while !matches!(old.commands.recv().await, Some(Command::Drain(_))) {}
    old.kill();
    let status = emperor.app_until("blog", |it| it.workers.len() == 1).await;
    assert_eq!((status.phase, status.generation), (Phase::Running, 2));
}

#[tokio::test]
async fn workers_of_an_unusable_version_are_replaced_once_there_is_another() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let answer = emperor.reload("blog").await;
    Worker::attach(&emperor, "blog", 2).await.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    emperor.stop().await;

    root.forget_good_version("blog");
    root.write("blog", 1, "wokers = 3\n");
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach_serving(&emperor, "blog", 2).await;
    root.write("blog", 1, "");
    let status = emperor.app_until("blog", |it| it.generation == 3).await;
    assert_eq!(status.phase, Phase::Reloading);
    // The first one is still draining, and holds its number.
    Worker::attach(&emperor, "blog", 3).await.ready().await;
    assert!(matches!(old.commands.recv().await, Some(Command::Drain(_))));
}

#[tokio::test]
async fn workers_are_stopped_if_their_file_was_deleted_while_emperord_was_down() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor.stop().await;

    root.delete("blog");
    let emperor = Emperor::start(&root);
    assert!(emperor.watch().await.routes.is_empty());
    let mut worker = Worker::attach_serving(&emperor, "blog", 1).await;
    assert!(matches!(worker.commands.recv().await, Some(Command::Drain(_))));
    worker.kill();
    emperor.until(|status| status.apps.is_empty()).await;
}

#[tokio::test]
async fn the_first_of_two_apps_keeps_a_domain_that_both_want() {
    let root = Root::new();
    root.write_at("blog", "same.example", 1);
    let emperor = Emperor::start(&root);
    emperor.app_until("blog", |it| it.wanted == 1).await;
    root.write_at("another", "same.example", 1);
    let status = emperor.app_until("another", |it| !it.last_error.is_empty()).await;
    assert_eq!(status.phase, Phase::Failed);
    assert!(status.last_error.contains("another.toml:1:"), "{}", status.last_error);
    assert!(status.last_error.contains("blog.toml"), "{}", status.last_error);

    root.delete("blog");
    emperor.app_until("another", |it| it.phase == Phase::Starting && it.last_error.is_empty()).await;
}

#[tokio::test]
async fn an_app_whose_file_was_never_valid_is_listed() {
    let root = Root::new();
    root.write("blog", 1, "wokers = 3\n");
    let emperor = Emperor::start(&root);
    let status = emperor.app_until("blog", |_| true).await;
    assert_eq!((status.phase, status.workers.len()), (Phase::Failed, 0));
    assert!(emperor.watch().await.routes.is_empty());
    let refusal = emperor.reload("blog").await.await.unwrap().unwrap_err();
    assert!(refusal.to_string().contains("wokers"), "{refusal}");
}

#[tokio::test]
async fn scale_writes_the_file_and_waits_for_the_workers() {
    let root = Root::new();
    root.write("blog", 1, "# kept\n");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let mut answer = emperor.scale("blog", 2).await;
    let worker = Worker::attach(&emperor, "blog", 2).await;
    assert!(answer.try_recv().is_err(), "answered before the worker was ready");
    worker.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    let text = root.read("blog");
    assert!(text.contains("workers = 2") && text.contains("# kept"), "{text}");

    let refusal = emperor.scale("blog", 0).await.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("choose a number from 1 to"), "{refusal}");
}

#[tokio::test]
async fn scale_fails_if_the_number_is_changed_again() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let overtaken = emperor.scale("blog", 3).await;
    let _starting = Worker::attach(&emperor, "blog", 3).await;
    let last = emperor.scale("blog", 1).await;
    let refusal = overtaken.await.unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "`workers` of app `blog` is 1 now: its file was changed again");
    assert_eq!(last.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_worker_that_exits_before_it_is_ready_is_reported_with_a_hint() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.kill();
    let status = emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
    let expected = "worker blog-1 was killed by SIGKILL before it was ready: see the log";
    assert!(status.last_error.starts_with(expected), "{}", status.last_error);
}

#[tokio::test]
async fn an_app_whose_socket_path_is_too_long_is_refused() {
    let mut root = Root::new();
    root.move_run_to(&"r".repeat(90));
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let status = emperor.app_until("blog", |it| it.phase == Phase::Failed).await;
    for part in ["blog.toml", "blog-10.sock has ", "choose a shorter"] {
        assert!(status.last_error.contains(part), "{}", status.last_error);
    }
    assert!(status.workers.is_empty(), "{status:?}");
}

#[tokio::test]
async fn reload_waits_for_the_new_workers_or_reports_why_they_fail() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach(&emperor, "blog", 1).await;
    old.ready().await;
    emperor.app_until("blog", |it| it.phase == Phase::Running).await;

    let answer = emperor.reload("blog").await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Import, "oh no", "").await;
    broken.kill();
    let error = AdminError::Start("worker blog-2 cannot run its app: oh no".to_owned());
    assert_eq!(answer.await.unwrap(), Err(error));

    let answer = emperor.reload("blog").await;
    Worker::attach(&emperor, "blog", 2).await.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    // It may also be told that the failed worker has exited.
    loop {
        match old.commands.recv().await.unwrap() {
            Command::Drain(_) => break,
            _ => continue,
        }
    }

    let refusal = emperor.reload("shop").await.await.unwrap().unwrap_err().to_string();
    assert_eq!(refusal, "there is no app `shop`: choose one of blog");
}

#[tokio::test]
async fn only_a_developer_sees_why_the_newest_version_cannot_start() {
    let text = "No module named x\nTraceback\nImportError: x";
    for (mode, shown) in [(Mode::Production, None), (Mode::Development, Some(text))] {
        let mut root = Root::new();
        root.run_for(mode);
        root.write("blog", 1, "");
        let emperor = Emperor::start(&root);
        let worker = Worker::attach(&emperor, "blog", 1).await;
        assert_eq!(emperor.spec("blog", 1, worker.pid).await.unwrap().mode, mode);
        worker.fails(Reason::Import, "No module named x", "Traceback\nImportError: x\n").await;
        emperor.app_until("blog", |it| it.last_error.contains("No module named x")).await;
        assert_eq!(emperor.watch().await.routes[0].failure.as_ref().map(|it| &*it.text), shown);
        worker.kill();

        root.write("blog", 1, "threads = 2\n");
        emperor.app_until("blog", |it| it.generation == 2).await;
        assert_eq!(emperor.watch().await.routes[0].failure, None, "the edit may be the fix");
    }
}

#[tokio::test]
async fn running_workers_get_a_changed_memory_limit() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let mut worker = Worker::attach(&emperor, "blog", 1).await;
    worker.ready().await;
    root.write("blog", 1, "recycle = { memory = \"90 MB\" }\n");
    let is_expected = |command: &Command| match command {
        Command::Run(spec) => spec.vassal.recycle.memory == Some(90_000_000),
        _ => false,
    };
    while !is_expected(&worker.commands.recv().await.unwrap()) {}
}

#[tokio::test]
async fn a_shutdown_is_answered_once_all_workers_have_exited() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let mut worker = Worker::attach(&emperor, "blog", 1).await;
    worker.ready().await;
    let mut answer = emperor.shutdown().await;
    assert!(matches!(worker.commands.recv().await, Some(Command::Run(_))));
    assert!(matches!(worker.commands.recv().await, Some(Command::Drain(_))));
    assert!(answer.try_recv().is_err(), "answered before the worker was gone");
    worker.kill();
    answer.await.unwrap();
    emperor.ended().await;
}

#[tokio::test]
async fn an_unwanted_worker_is_told_to_stop() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    for (app, number, pid) in [("blog", 1, 1), ("blog", 7, 1), ("shop", 1, 1)] {
        let mut worker = Worker::attach_as(&emperor, app, number, pid).await;
        assert!(matches!(worker.commands.recv().await, Some(Command::Stop(_))), "{app}-{number}");
    }
    emperor.app_until("blog", |it| !it.workers.is_empty()).await;
    assert!(matches!(emperor.spec("blog", 1, 1).await, Err(SpecError::Taken { .. })));
    assert!(matches!(emperor.spec("shop", 1, 1).await, Err(SpecError::NotWanted(_))));
}

#[tokio::test]
async fn a_worker_is_identified_by_pid_start_time_and_user() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let status = emperor.app_until("blog", |it| !it.workers.is_empty()).await;
    let worker = caller(status.workers[0].pid);
    let later = Identity { started: worker.identity.started + 1, ..worker.identity };
    let is_taken = emperor.spec_for("blog", 1, Caller { identity: later, ..worker }).await;
    assert!(matches!(is_taken, Err(SpecError::Taken { .. })), "{is_taken:?}");
    let other_user = emperor.spec_for("blog", 1, Caller { uid: worker.uid + 1, ..worker }).await;
    assert!(matches!(other_user, Err(SpecError::User { .. })), "{other_user:?}");
    assert!(emperor.spec_for("blog", 1, worker).await.is_ok());
}
