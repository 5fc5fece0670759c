//! Tests of the pool's guarantees.

mod exclusive;
mod lag;
mod preferred;
mod property;
mod upload;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::member::MAX_QUEUED;
use super::queue::MAX_TRIES;
use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const QUEUE_TIMEOUT: Duration = Duration::from_secs(3600);

fn pool() -> Arc<Pool<&'static str>> {
    Pool::new(Admission::Queue(2))
}

/// The state of a pool without blocked workers.
fn stats(workers: usize, capacity: usize, in_flight: usize, waiting: usize) -> PoolStats {
    PoolStats { workers, capacity, in_flight, waiting, blocked: 0, sockets: 0 }
}

async fn acquire(pool: &Arc<Pool<&'static str>>, shard: usize) -> Result<Lease<&'static str>, Refused> {
    pool.acquire(shard, Isolation::Shared, &mut Attempts::new(QUEUE_TIMEOUT)).await
}

#[tokio::test]
async fn the_least_busy_worker_is_selected_and_none_exceeds_its_capacity() {
    let pool = pool();
    pool.link(0, 1, 2, "a");
    pool.link(0, 2, 1, "b");
    let leases = [
        acquire(&pool, 0).await.unwrap(),
        acquire(&pool, 0).await.unwrap(),
        acquire(&pool, 0).await.unwrap(),
    ];
    assert_eq!(leases.each_ref().map(|it| *it.link()), ["a", "b", "a"]);
    assert_eq!(pool.stats(), stats(2, 3, 3, 0));
}

#[tokio::test]
async fn capacity_is_counted_across_shards() {
    let pool = pool();
    pool.link(0, 1, 1, "a from 0");
    pool.link(1, 1, 1, "a from 1");
    let first = acquire(&pool, 0).await.unwrap();
    let waiting = acquire(&pool, 1);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(first);
    assert_eq!(*waiting.await.unwrap().link(), "a from 1");
}

#[tokio::test]
async fn requests_leave_the_queue_in_order_and_keep_their_place_for_a_second_try() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let (mut early, mut late) = (Attempts::new(QUEUE_TIMEOUT), Attempts::new(QUEUE_TIMEOUT));
    let first = acquire(&pool, 0).await.unwrap();
    {
        let taken_back = pool.acquire(0, Isolation::Shared, &mut early);
        tokio::pin!(taken_back);
        assert!(futures_util::poll!(&mut taken_back).is_pending());
    }
    let second = pool.acquire(0, Isolation::Shared, &mut late);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    let again = pool.acquire(0, Isolation::Shared, &mut early);
    tokio::pin!(again);
    assert!(futures_util::poll!(&mut again).is_pending());
    drop(first);
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(again.await.unwrap());
    second.await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_requests_until_one_leaves() {
    let pool = pool();
    let mut first = Box::pin(acquire(&pool, 0));
    let mut second = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(acquire(&pool, 0).await.unwrap_err(), Refused::Full);
    drop(first);
    let mut third = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut third).is_pending());
    pool.link(0, 1, 2, "a");
    drop((second.await.unwrap(), third.await.unwrap()));
    assert_eq!(pool.stats(), stats(1, 2, 0, 0));
}

#[tokio::test]
async fn a_request_handed_back_comes_before_waiting_ones_even_if_the_queue_is_full() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let mut attempts = Attempts::new(QUEUE_TIMEOUT);
    let first = pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap();
    let mut second = Box::pin(acquire(&pool, 0));
    let mut third = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut second).is_pending());
    assert!(futures_util::poll!(&mut third).is_pending());
    pool.unlink(0, 1);
    drop(first);
    let mut again = Box::pin(pool.acquire(0, Isolation::Shared, &mut attempts));
    assert!(futures_util::poll!(&mut again).is_pending(), "neither refused nor granted");
    pool.link(0, 2, 1, "b");
    assert!(futures_util::poll!(&mut second).is_pending(), "it came later");
    drop(again.await.unwrap());
    drop(second.await.unwrap());
    third.await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_linked_again_keeps_its_load() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let lease = acquire(&pool, 0).await.unwrap();
    pool.unlink(0, 1);
    pool.link(0, 1, 1, "a again");
    let mut waiting = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(lease);
    drop(waiting.await.unwrap());
    assert_eq!(pool.stats(), stats(1, 1, 0, 0));
}

#[tokio::test]
async fn waiting_requests_are_queued_at_workers_once_the_app_proves_fast() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let first = acquire(&pool, 0).await.unwrap();
    let mut second = Box::pin(acquire(&pool, 0));
    let mut third = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut second).is_pending());
    assert!(futures_util::poll!(&mut third).is_pending());
    (0..100).for_each(|_| pool.state.lock().pace.served(Duration::from_micros(20)));
    drop(first);
    let _both_at_once = (second.await.unwrap(), third.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_queue_timeout() {
    let pool = pool();
    let refused =
        pool.acquire(0, Isolation::Shared, &mut Attempts::new(Duration::from_secs(30))).await.unwrap_err();
    assert_eq!((refused, pool.stats().waiting), (Refused::TimedOut, 0));
}

#[tokio::test(start_paused = true)]
async fn all_tries_of_a_request_share_its_time_in_the_queue() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let mut attempts = Attempts::new(Duration::from_secs(30));
    let first = pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap();
    attempts.pass(Duration::from_secs(20));
    first.declined();
    let _busy = acquire(&pool, 0).await.unwrap();
    let began = Instant::now();
    assert_eq!(pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap_err(), Refused::TimedOut);
    let waited = began.elapsed();
    assert!(
        waited <= Duration::from_secs(11),
        "20 of its 30 seconds were over, and it waited for {waited:?}"
    );
}

#[tokio::test]
async fn a_request_that_comes_back_too_late_is_not_tried_again() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let mut attempts = Attempts::new(Duration::ZERO);
    pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap().declined();
    pool.acquire(0, Isolation::Shared, &mut attempts)
        .await
        .expect("a limit of 0 still allows a retry")
        .declined();
    attempts.pass(Duration::from_secs(2));
    assert_eq!(pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap_err(), Refused::TimedOut);
    attempts.extend(Duration::from_secs(10));
    pool.acquire(0, Isolation::Shared, &mut attempts).await.expect("the time at the worker doesn't count");
}

#[tokio::test]
async fn a_request_that_is_handed_back_every_time_is_given_up() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let mut attempts = Attempts::new(QUEUE_TIMEOUT);
    for _ in 0..MAX_TRIES {
        pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap().declined();
    }
    assert_eq!(pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap_err(), Refused::HandedBack);
}

#[tokio::test]
async fn a_failed_app_refuses_waiting_requests_unless_it_has_workers() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    let lease = acquire(&pool, 0).await.unwrap();
    let mut waiting = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    pool.admit(Admission::Refuse(2));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    pool.unlink(0, 1);
    assert_eq!(waiting.await.unwrap_err(), Refused::Failed);
    assert_eq!(acquire(&pool, 0).await.unwrap_err(), Refused::Failed);
    drop(lease);
    assert_eq!(pool.stats(), PoolStats::default());
}

#[tokio::test]
async fn the_queue_of_a_failed_app_that_has_workers_is_bounded() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.admit(Admission::Refuse(0));
    let _busy = acquire(&pool, 0).await.unwrap();
    assert_eq!(acquire(&pool, 0).await.unwrap_err(), Refused::Full);
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Full);
}

#[tokio::test]
async fn no_request_is_queued_at_a_stalled_worker() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.link(0, 2, 1, "b");
    (0..100).for_each(|_| pool.state.lock().pace.served(Duration::from_millis(5)));
    let busy = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    pool.state.lock().members[0].progress -= Duration::from_secs(1);
    let ahead = acquire(&pool, 0).await.unwrap();
    assert_eq!((*ahead.link(), ahead.slot()), ("b", Slot::Queued));
    assert!(
        futures_util::poll!(Box::pin(acquire(&pool, 0))).is_pending(),
        "a is stalled, and one request is queued at b"
    );
    drop(busy);
}

#[tokio::test]
async fn a_request_that_a_worker_declines_goes_to_another_one() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.link(0, 2, 1, "b");
    let lease = acquire(&pool, 0).await.unwrap();
    assert_eq!(*lease.link(), "a");
    lease.declined();
    let leases = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    assert_eq!(leases.each_ref().map(|it| *it.link()), ["b", "a"]);
}

#[tokio::test]
async fn a_request_handed_back_is_no_progress() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    (0..100).for_each(|_| pool.state.lock().pace.served(Duration::from_micros(20)));
    let _stuck = acquire(&pool, 0).await.unwrap();
    let ahead = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    pool.state.lock().members[0].progress -= Duration::from_secs(1);
    let [first, second] = ahead;
    first.recalled();
    assert!(second.is_stalled(Instant::now()), "it has made no progress");
    assert!(futures_util::poll!(Box::pin(acquire(&pool, 0))).is_pending());
}

/// An undelivered lease says nothing about the speed of the app.
#[tokio::test]
async fn an_undelivered_lease_is_not_measured() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    (0..100).for_each(|_| pool.state.lock().pace.served(Duration::from_millis(20)));
    let _busy = acquire(&pool, 0).await.unwrap();
    for _ in 0..200 {
        let mut gone = Box::pin(acquire(&pool, 0));
        assert!(futures_util::poll!(&mut gone).is_pending());
        pool.link(0, 2, 1, "b");
        assert_eq!(pool.stats().in_flight, 2, "the lease is granted");
        drop(gone);
        pool.unlink(0, 2);
    }
    assert_eq!(pool.state.lock().pace.queue_depth(), 0);
}

#[test]
fn service_time_is_measured_per_thread() {
    let (began, ms) = (Instant::now(), Duration::from_millis);
    let member = |in_flight| {
        let mut member = Member::<()>::new(1, 16.into());
        (member.in_flight, member.progress) = (in_flight, began);
        member
    };
    let took = |in_flight, granted, now| member(in_flight).served(began + granted, began + now);
    assert_eq!(took(1, ms(0), ms(40)), ms(40), "it was the only one");
    assert_eq!(took(16, ms(0), ms(2)), ms(2), "no more than the time since the grant");
    assert_eq!(
        member(40).served(began.checked_sub(ms(60)).unwrap(), began + ms(3)),
        ms(48),
        "one of 16 ends every 3 ms"
    );
}

#[tokio::test]
async fn the_requests_queued_at_one_worker_are_bounded() {
    let pool = pool();
    pool.link(0, 1, 16, "a");
    (0..100).for_each(|_| pool.state.lock().pace.served(Duration::from_micros(20)));
    let mut leases = Vec::new();
    while let std::task::Poll::Ready(lease) = futures_util::poll!(Box::pin(acquire(&pool, 0))) {
        leases.push(lease.unwrap());
    }
    assert_eq!(leases.len(), 16 + MAX_QUEUED);
}

#[tokio::test]
async fn a_handshake_gets_the_worker_with_the_fewest_websockets_and_none_that_is_full() {
    let pool = Pool::new(Admission::Queue(2));
    pool.link(0, 1, Room { requests: 10, sockets: 2 }, "one");
    pool.link(0, 2, Room { requests: 10, sockets: 2 }, "two");
    pool.link(0, 3, 10, "none");
    let handshake =
        async || pool.acquire(0, Isolation::Shared, &mut Attempts::new(QUEUE_TIMEOUT).for_websocket()).await;
    let mut sockets = Vec::new();
    for expected in ["one", "two", "one", "two"] {
        let lease = handshake().await.unwrap();
        assert_eq!(*lease.link(), expected);
        sockets.push(lease.into_socket().unwrap());
    }
    assert_eq!((pool.stats().in_flight, pool.stats().sockets), (0, 4));
    assert_eq!(handshake().await.unwrap_err(), Refused::NoSocketRoom);
    sockets.remove(1);
    let lease = handshake().await.unwrap();
    assert_eq!(*lease.link(), "two");
    assert_eq!(pool.stats().sockets, 4, "a handshake in flight counts");
    drop(lease);
    assert_eq!(pool.stats().sockets, 3);
    drop(sockets);

    let pool = Pool::new(Admission::Queue(2));
    pool.link(0, 3, 10, "none");
    let attempts = &mut Attempts::new(QUEUE_TIMEOUT).for_websocket();
    let lease = pool.acquire(0, Isolation::Shared, attempts).await.unwrap();
    assert!(!lease.allows_socket() && lease.into_socket().is_none());
}
