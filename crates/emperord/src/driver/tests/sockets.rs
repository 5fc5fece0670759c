//! Replaced workers that open WebSockets keep.

use std::time::Duration;

use supervise::{Phase, Stage};

use super::emperor::{Emperor, Root, Worker, pids};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_reload_is_done_while_websockets_keep_the_old_worker() {
    let root = Root::new();
    root.write("chat", 1, "");
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach(&emperor, "chat", 1).await;
    old.ready().await;
    old.has_sockets(12).await;
    emperor.app_until("chat", |it| it.phase == Phase::Running).await;

    let answer = emperor.reload("chat").await;
    let new = Worker::attach(&emperor, "chat", 2).await;
    new.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    let order = old.drain_order().await;
    assert!(order.grace <= Duration::from_secs(30), "{order:?}");
    assert!(order.sockets <= HOUR && order.sockets > HOUR / 2, "{order:?}");
    let status = emperor.app_until("chat", |it| it.workers.len() == 2).await;
    assert_eq!((status.phase, status.workers[0].load.sockets), (Phase::Running, 12));
    assert!(matches!(status.workers[0].stage, Stage::Draining(_)));
    assert!(status.workers[0].sockets_end.is_some_and(|it| it > HOUR / 2), "{status:?}");
    assert_eq!(emperor.watch().await.routes[0].workers.len(), 1);

    // Another limit reaches it at once.
    root.write("chat", 1, "[timeouts]\nwebsocket_drain = \"5m\"\n");
    let order = old.drain_order().await;
    assert!(order.sockets <= HOUR / 12 && order.sockets > HOUR / 24, "{order:?}");

    old.has_sockets(0).await;
    emperor.app_until("chat", |it| it.workers[0].sockets_end.is_none()).await;
    old.kill();
    emperor.app_until("chat", |it| pids(it) == [new.pid]).await;
}

#[tokio::test]
async fn a_removed_app_gives_websockets_a_second() {
    let root = Root::new();
    root.write("chat", 1, "");
    let emperor = Emperor::start(&root);
    let mut old = Worker::attach(&emperor, "chat", 1).await;
    old.ready().await;
    old.has_sockets(1).await;
    let answer = emperor.reload("chat").await;
    let mut new = Worker::attach(&emperor, "chat", 2).await;
    new.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    assert!(old.drain_order().await.sockets > HOUR / 2);

    root.delete("chat");
    for worker in [&mut old, &mut new] {
        assert_eq!(worker.drain_order().await.sockets, Duration::from_secs(1));
        worker.kill();
    }
    emperor.until(|status| status.apps.is_empty()).await;
}

#[tokio::test]
async fn the_next_emperord_waits_for_the_websockets_of_a_worker_that_drains() {
    let root = Root::new();
    root.write("chat", 1, "[timeouts]\nstop = 0\n");
    let emperor = Emperor::start(&root);
    let old = Worker::attach(&emperor, "chat", 1).await;
    old.ready().await;
    old.has_sockets(1).await;
    let answer = emperor.reload("chat").await;
    Worker::attach(&emperor, "chat", 2).await.ready().await;
    assert_eq!(answer.await.unwrap(), Ok(()));
    let pid = old.pid;
    emperor.stop().await;

    let emperor = Emperor::start(&root);
    let again = Worker::attach_draining(&emperor, "chat", 1).await;
    again.has_sockets(1).await;
    let status = emperor.app_until("chat", |it| it.workers[0].sockets_end.is_some()).await;
    assert_eq!((status.workers[0].pid, status.phase), (pid, Phase::Running));
    again.kill();
    emperor.app_until("chat", |it| it.workers.len() == 1).await;
}
