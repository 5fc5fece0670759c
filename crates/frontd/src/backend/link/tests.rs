//! Links that end, and exchanges on them.

use api::runner::Response;

use super::*;
use crate::backend::pool::{Admission, Attempts, Isolation, Pool};

/// The outcome of an exchange of which nothing else is reported.
async fn outcome(pending: &mut Pending) -> Outcome {
    match std::future::poll_fn(|cx| pending.poll_progress(cx)).await {
        Progress::Settled(outcome) => outcome,
        other => panic!("{other:?} is no outcome"),
    }
}

/// A link can end after a lease on it was granted.
#[tokio::test]
async fn a_request_on_an_ended_link_is_handed_back_and_not_sent() {
    type End = fn(&Link);
    for end in [(|it| it.retire()) as End, |it| it.exchanges.broken()] {
        let (link, outgoing) = Link::new("blog-1", Path::new("/nowhere"));
        let pool = Pool::new(Admission::Queue(1));
        pool.link(0, 1, 1, Arc::clone(&link));
        let lease = pool.acquire(0, Isolation::Shared, &mut Attempts::new(Duration::ZERO)).await.unwrap();
        pool.unlink(0, 1);
        end(&link);
        let mut pending = link.begin(lease, None, Request::default());
        assert!(matches!(outcome(&mut pending).await, Outcome::HandedBack));
        drop(pending);
        assert_eq!(pool.stats().in_flight, 0);
        drop(link);
        let sent: Vec<_> = outgoing.collect().await;
        assert_eq!(sent.len(), 1, "only the opening message: {sent:?}");
    }
}

/// A cancelled request says nothing about the worker.
#[tokio::test]
async fn a_worker_is_not_avoided_because_a_client_cancelled() {
    let pool = Pool::new(Admission::Queue(1));
    let (link, _outgoing) = Link::new("blog-1", Path::new("/nowhere"));
    pool.link(0, 1, 1, Arc::clone(&link));
    pool.link(0, 2, 1, Link::new("blog-2", Path::new("/nowhere")).0);
    let lease =
        async || pool.acquire(0, Isolation::Shared, &mut Attempts::new(Duration::ZERO)).await.unwrap();
    let pending = link.begin(lease().await, None, Request::default());
    let id = pending.id;
    drop(pending);
    link.exchanges.handed_back(&[id]);
    assert_eq!(pool.stats().in_flight, 0);
    assert_eq!(lease().await.link().worker(), "blog-1", "it still comes first");
}

/// What a worker sends after its response may be late.
#[tokio::test]
async fn an_exchange_with_a_response_has_no_deadline() {
    let pool = Pool::new(Admission::Queue(1));
    let (link, _outgoing) = Link::new("blog-1", Path::new("/nowhere"));
    pool.link(0, 1, 1, Arc::clone(&link));
    let lease = pool.acquire(0, Isolation::Shared, &mut Attempts::new(Duration::ZERO)).await.unwrap();
    let pending = link.begin(lease, Some(Duration::from_secs(1)), Request::default());
    link.exchanges.response(Response { id: pending.id, streamed: true, ..Response::default() });
    link.exchanges.need_body(pending.id, 0);
    link.exchanges.early_hints(pending.id, Vec::new());
    assert_eq!(link.exchanges.expire(Instant::now()), CheckAgain::No);
}

/// Nobody else may ask for a worker meanwhile, and the client may have left.
#[tokio::test(start_paused = true)]
async fn an_overdue_exclusive_exchange_ends_its_reservation() {
    let pool = Pool::new(Admission::Queue(1));
    let (link, _outgoing) = Link::new("blog-1", Path::new("/nowhere"));
    pool.link(0, 1, 2, Arc::clone(&link));
    let acquire =
        async |isolation| pool.acquire(0, isolation, &mut Attempts::new(Duration::MAX)).await.unwrap();
    drop(link.begin(acquire(Isolation::Exclusive).await, None, Request::default()));
    let mut later = Box::pin(acquire(Isolation::Shared));
    assert!(futures_util::poll!(&mut later).is_pending());
    pool.age_reservation(Duration::from_secs(1));
    tokio::select! {
        () = link.run_checks() => {}
        _lease = later => {}
    }
}

/// A draining worker exits once its links are closed, which would truncate bodies that are still being
/// received.
#[tokio::test]
async fn a_link_stays_open_until_the_last_response_body_is_received() {
    let (link, outgoing) = Link::new("blog-1", Path::new("/nowhere"));
    let pool = Pool::new(Admission::Queue(1));
    pool.link(0, 1, 1, Arc::clone(&link));
    let lease = pool.acquire(0, Isolation::Shared, &mut Attempts::new(Duration::ZERO)).await.unwrap();
    let mut pending = link.begin(lease, None, Request::default());
    let response = Response { id: pending.id, streamed: true, done: true, ..Response::default() };
    link.exchanges.response(response);
    assert_eq!(pool.stats().in_flight, 0, "the worker's capacity is free");
    link.retire();
    let outcome = outcome(&mut pending).await;
    let sent = outgoing.map(|_| ()).collect::<Vec<_>>();
    tokio::pin!(sent);
    assert!(futures_util::poll!(&mut sent).is_pending(), "its body isn't received yet");
    drop(outcome);
    assert_eq!(sent.await.len(), 2, "the opening message and the request");
}

/// A reload or a new configuration cuts no WebSocket: the old worker's link stays open until its last one is closed.
#[tokio::test]
async fn a_link_stays_open_until_the_worker_is_done_with_its_last_websocket() {
    let (link, outgoing) = Link::new("blog-1", Path::new("/nowhere"));
    let pool = Pool::new(Admission::Queue(1));
    pool.link(0, 1, Room { requests: 1, sockets: 1 }, Arc::clone(&link));
    let mut attempts = Attempts::new(Duration::ZERO).for_websocket();
    let lease = pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap();
    let mut pending = link.begin(lease, None, Request::default());
    link.exchanges.response(Response { id: pending.id, status: 101, ..Response::default() });
    let Outcome::Socket { mut socket, .. } = outcome(&mut pending).await else { panic!() };
    drop(pending);
    assert_eq!((pool.stats().in_flight, pool.stats().sockets), (0, 1));
    pool.unlink(0, 1);
    link.retire();
    let sent = outgoing.map(|_| ()).collect::<Vec<_>>();
    tokio::pin!(sent);
    assert!(socket.send(bytes::Bytes::from_static(b"still open"), true).is_none());
    socket.close(1000, "");
    drop(socket);
    assert!(futures_util::poll!(&mut sent).is_pending(), "the worker isn't done");
    assert_eq!(link.exchanges.done(1), LinkState::Idle);
    link.close_if(LinkState::Idle);
    assert_eq!(sent.await.len(), 4, "the opening message, the request, a message and its end");
    assert_eq!(pool.stats().sockets, 0);
}
