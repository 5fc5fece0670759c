//! Workers that are started by a service manager.

use std::io::{BufRead as _, BufReader, pipe};
use std::process::Command;
use std::sync::Arc;

use supervise::Phase;

use super::emperor::{Emperor, Root};
use super::manager::{Manager, STATUS};
use crate::pidfd::Process;
use crate::routes::RouteState;

#[tokio::test]
async fn a_cancelled_order_keeps_its_number_until_it_has_completed() {
    let (root, manager) = (Root::new(), Manager::default());
    root.write("blog", 2, "");
    let emperor = Emperor::start_with(&root, Arc::new(manager.clone()));
    manager.asked(&["start blog-1", "start blog-2"]).await;
    root.write("blog", 1, "");
    manager.asked(&["start blog-1", "start blog-2", "stop blog-2"]).await;

    // The cancelled order may still start a process. Until it has completed, its number isn't reused.
    root.write("blog", 2, "");
    manager.asked(&["start blog-1", "start blog-2", "stop blog-2", "start blog-3"]).await;
    manager.cancels("blog-2");
    let status = emperor.app_until("blog", |it| it.wanted == 2).await;
    assert_eq!((status.phase, status.last_error.as_str()), (Phase::Starting, ""), "it was called off");
}

/// For example 217/USER. Requests aren't queued then.
#[tokio::test]
async fn a_start_that_systemd_refuses_fails_the_app_at_once() {
    for is_refused in [true, false] {
        let (root, manager) = (Root::new(), Manager::default());
        root.write("blog", 1, "");
        let emperor = Emperor::start_with(&root, Arc::new(manager.clone()));
        manager.asked(&["start blog-1"]).await;
        match is_refused {
            true => manager.refuses("blog-1"),
            false => manager.cancels("blog-1"),
        }
        let status = emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
        assert!(status.last_error.starts_with("worker blog-1 was not started: "), "{}", status.last_error);
        let state = emperor.watch().await.routes[0].state;
        assert_eq!(state, if is_refused { RouteState::Failed } else { RouteState::Starting });
    }
}

#[tokio::test]
async fn an_app_is_removed_once_its_orders_have_completed() {
    let (root, manager) = (Root::new(), Manager::default());
    root.write("blog", 1, "");
    let emperor = Emperor::start_with(&root, Arc::new(manager.clone()));
    manager.asked(&["start blog-1"]).await;
    root.delete("blog");
    manager.asked(&["start blog-1", "stop blog-1"]).await;
    emperor.app_until("blog", |_| true).await;
    manager.cancels("blog-1");
    emperor.until(|status| status.apps.is_empty()).await;
    manager.asked(&["start blog-1", "stop blog-1", "forget blog"]).await;
}

#[tokio::test]
async fn the_manager_gets_a_changed_stop_limit_and_reports_exits() {
    let (root, manager) = (Root::new(), Manager::default());
    root.write("blog", 1, "");
    let emperor = Emperor::start_with(&root, Arc::new(manager.clone()));
    manager.asked(&["start blog-1"]).await;
    let pid = no_child();
    emperor.spec("blog", 1, pid).await.unwrap();
    root.write("blog", 1, "[timeouts]\nstop = 60\n");
    manager.asked(&["start blog-1", "change blog-1"]).await;

    Process::open(pid).unwrap().signal(rustix::process::Signal::KILL);
    let status = emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
    let expected = format!("worker blog-1 exited with status {STATUS}");
    assert!(status.last_error.starts_with(&expected), "{}", status.last_error);
}

#[tokio::test]
async fn a_worker_gets_sigterm_if_the_manager_cannot_stop_it() {
    // The worker's parent prints how it exited. It isn't a child of this process, which would reap it as an
    // unknown orphan.
    let script = "(sleep 1000 & echo $!; wait $!; echo $?) &";
    let (output, shell) = pipe().unwrap();
    assert!(Command::new("sh").args(["-c", script]).stdout(shell).status().unwrap().success());
    let mut output = BufReader::new(output).lines().map(Result::unwrap);

    let (root, manager) = (Root::new(), Manager::default());
    root.write("blog", 1, "");
    let emperor = Emperor::start_with(&root, Arc::new(manager.clone()));
    manager.asked(&["start blog-1"]).await;
    emperor.spec("blog", 1, output.next().unwrap().parse().unwrap()).await.unwrap();

    manager.breaks();
    root.delete("blog");
    manager.asked(&["start blog-1", "stop blog-1", "forget blog"]).await;
    let sigterm = 128 + 15;
    assert_eq!(output.next(), Some(sigterm.to_string()));
}

/// Starts a process whose exit status isn't reported to this one, like those of systemd.
fn no_child() -> u32 {
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
