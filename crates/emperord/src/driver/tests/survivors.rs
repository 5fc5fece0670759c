//! Workers that outlive the state file.

use std::io::Read as _;
use std::process::{Command as Program, Stdio};

use rustix::process::Signal;
use supervise::{Phase, Stage};

use super::emperor::{self, Emperor, Root, Worker};
use crate::messages::Command;
use crate::pidfd::Process;
use crate::spec::Reason;

#[tokio::test]
async fn unrecorded_workers_are_adopted_and_replaced_without_a_gap() {
    for text in [None, Some("{")] {
        let root = Root::new();
        root.write("blog", 1, "");
        let emperor = Emperor::start(&root);
        Worker::attach(&emperor, "blog", 1).await.ready().await;
        let before = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
        let pid = emperor::pids(&before)[0];
        emperor.stop().await;
        root.lose_workers(text);

        let emperor = Emperor::start(&root);
        let mut old = Worker::attach_serving_as(&emperor, "blog", 1, pid).await;
        let adopted = emperor.app_until("blog", |it| emperor::pids(it) == [pid]).await;
        assert!(matches!(adopted.workers[0].stage, Stage::Ready { .. }), "{adopted:?}");
        assert_eq!(emperor.watch().await.routes[0].workers.len(), 1);
        Worker::attach(&emperor, "blog", 2).await.ready().await;
        assert!(matches!(old.commands.recv().await, Some(Command::Drain(_))));
        old.kill();
    }
}

/// It can't attach. If its number were free, another worker could take it, and nobody would know of the frozen one after
/// the next restart of emperord.
#[tokio::test]
async fn a_frozen_worker_that_is_not_recorded_keeps_its_number() {
    skip::needs_program!("python3");
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let first = Worker::attach(&emperor, "blog", 1).await;
    first.ready().await;
    let pid = first.pid;
    let socket = emperor.spec("blog", 1, pid).await.unwrap().socket;
    emperor.stop().await;
    Process::open(pid).unwrap().signal(Signal::KILL);

    let listen = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('.', flush=True); time.sleep(1000)";
    let mut listening =
        Program::new("python3").args(["-c", listen]).arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
    listening.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let frozen = Process::open(listening.id()).unwrap();
    frozen.signal(Signal::STOP);
    root.lose_workers(None);

    for _restart in 0..2 {
        let emperor = Emperor::start(&root);
        let status = emperor.app_until("blog", |it| !it.workers.is_empty()).await;
        assert_eq!((emperor::pids(&status), status.workers[0].name.number), (vec![listening.id()], 1));
        emperor.stop().await;
    }
    frozen.signal(Signal::KILL);
    listening.wait().unwrap();
}

/// What the workers run is unknown then, but the version is known.
#[tokio::test]
async fn after_a_lost_list_the_version_that_worked_replaces_killed_workers() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let pid = emperor::pids(&emperor.app_until("blog", |it| it.phase == Phase::Running).await)[0];
    emperor.stop().await;
    root.lose_workers(None);

    let emperor = Emperor::start(&root);
    let old = Worker::attach_serving_as(&emperor, "blog", 1, pid).await;
    root.write("blog", 1, "threads = 2\n");
    emperor.app_until("blog", |it| it.generation == 2).await;
    let broken = Worker::attach(&emperor, "blog", 2).await;
    broken.fails(Reason::Import, "broken", "").await;
    broken.kill();
    emperor.app_until("blog", |it| emperor::pids(it) == [pid]).await;
    old.kill();
    emperor.app_until("blog", |it| it.workers.iter().any(|it| it.generation == 1)).await;
}

#[tokio::test]
async fn a_serving_worker_that_is_not_wanted_is_drained() {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let mut unknown = Worker::attach_serving_as(&emperor, "blog", 7, std::process::id()).await;
    assert!(matches!(unknown.commands.recv().await, Some(Command::Drain(_))));
    let mut unknown = Worker::attach_serving_as(&emperor, "shop", 1, std::process::id()).await;
    assert!(matches!(unknown.commands.recv().await, Some(Command::Drain(_))));
}

/// Another user could impersonate a worker otherwise.
#[tokio::test]
async fn a_process_of_another_user_is_not_adopted() {
    skip::needs_root!();
    skip::needs_program!("setpriv");
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    let before = emperor.app_until("blog", |it| it.phase == Phase::Running).await;
    emperor.stop().await;
    root.lose_workers(None);
    let emperor = Emperor::start(&root);
    // It isn't recorded any more, and would outlive the test.
    Process::open(emperor::pids(&before)[0]).unwrap().signal(Signal::KILL);
    let mut nobody = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "sleep", "1000"])
        .spawn()
        .unwrap();
    let is_nobody = |pid| crate::pidfd::Identity::of(pid).is_some_and(|it| it.users() == [65534; 4]);
    while !is_nobody(nobody.id()) {
        tokio::task::yield_now().await;
    }
    let mut other = Worker::attach_serving_as(&emperor, "blog", 1, nobody.id()).await;
    assert!(matches!(other.commands.recv().await, Some(Command::Drain(_))));
    nobody.kill().unwrap();
    nobody.wait().unwrap();
}
