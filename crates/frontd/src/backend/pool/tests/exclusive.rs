//! Exclusive requests, which may not share their worker.

use futures_util::poll;

use super::*;
use crate::backend::pool::dispatch::RESERVATION_LIMIT;

fn pool(workers: u64, capacity: usize) -> Arc<Pool<u64>> {
    let pool = Pool::new(Admission::Queue(10));
    (1..=workers).for_each(|it| pool.link(0, it, capacity, it));
    pool
}

async fn shared(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.acquire(0, Isolation::Shared, &mut Attempts::new(QUEUE_TIMEOUT)).await.unwrap()
}

async fn exclusive(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.acquire(0, Isolation::Exclusive, &mut Attempts::new(QUEUE_TIMEOUT)).await.unwrap()
}

/// Leases room that must be available.
fn shared_now(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.state.lock().lease(pool, 0, Isolation::Shared, Instant::now(), Purpose::Request).unwrap()
}

#[tokio::test]
async fn an_idle_worker_takes_an_exclusive_request_and_nothing_else() {
    let pool = pool(2, 4);
    let first = shared(&pool).await;
    let second = exclusive(&pool).await;
    assert_eq!((*first.link(), *second.link()), (1, 2));
    let others = [shared(&pool).await, shared(&pool).await, shared(&pool).await];
    assert!(others.iter().all(|it| *it.link() == 1));
    let mut one_more = Box::pin(shared(&pool));
    assert!(poll!(&mut one_more).is_pending(), "next to an exclusive request");
    drop(second);
    assert_eq!(*one_more.await.link(), 2);
}

#[tokio::test]
async fn a_busy_worker_is_reserved_until_it_is_idle() {
    let pool = pool(1, 2);
    let (first, second) = (shared(&pool).await, shared(&pool).await);
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    drop(first);
    assert!(poll!(&mut waits).is_pending() && poll!(&mut later).is_pending(), "the worker isn't idle");
    drop(second);
    let had = waits.await;
    assert!(poll!(&mut later).is_pending(), "next to an exclusive request");
    drop(had);
    later.await;
}

#[tokio::test]
async fn a_cancelled_wait_ends_the_reservation() {
    let pool = pool(1, 2);
    let _busy = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    drop(waits);
    later.await;
}

#[tokio::test]
async fn a_reservation_ends_when_another_worker_is_idle_first() {
    let pool = pool(2, 2);
    let busy = [(); 4].map(|()| shared_now(&pool));
    let [a, b, c, d] = busy;
    assert_eq!([&a, &b, &c, &d].map(|it| *it.link()), [1, 2, 1, 2]);
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    drop(a);
    assert!(poll!(&mut later).is_pending(), "the first is reserved");
    drop(b);
    let later = later.await;
    drop((later, d));
    let had = waits.await;
    assert_eq!(*had.link(), 2, "it was idle first");
    assert_eq!(*shared(&pool).await.link(), 1);
    drop(c);
}

#[tokio::test]
async fn exclusive_requests_take_turns_at_one_worker() {
    let pool = pool(1, 1);
    let busy = shared(&pool).await;
    let (mut first, mut second) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(busy);
    let had = first.await;
    assert!(poll!(&mut second).is_pending());
    drop(had);
    drop(second.await);
    drop(shared(&pool).await);
}

#[tokio::test]
async fn exclusive_requests_occupy_at_most_one_worker() {
    let pool = pool(2, 1);
    let busy = [shared(&pool).await, shared(&pool).await];
    let (mut first, mut second) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    drop(busy);
    let had = first.await;
    assert!(poll!(&mut second).is_pending());
    assert_ne!(later.await.link(), had.link());
    drop(had);
    second.await;
}

#[tokio::test]
async fn a_worker_whose_response_has_started_is_shared_again() {
    let pool = pool(1, 2);
    let mut streams = exclusive(&pool).await;
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    streams.response_started();
    later.await;
}

#[tokio::test]
async fn another_worker_is_reserved_if_the_first_is_gone() {
    let pool = pool(2, 2);
    let busy = [(); 4].map(|()| shared_now(&pool));
    let [streams, b, c, d] = busy;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    pool.unlink(0, *streams.link());
    let mut later = Box::pin(shared(&pool));
    drop(b);
    assert!(poll!(&mut later).is_pending(), "the other one is reserved instead");
    drop((c, d));
    assert_eq!(*waits.await.link(), 2);
}

#[tokio::test]
async fn a_worker_that_one_shard_has_lost_gets_no_requests_until_it_is_linked_again() {
    let pool = pool(1, 2);
    pool.link(1, 1, 2, 1);
    pool.lose(0, 1);
    let mut attempts = Attempts::new(QUEUE_TIMEOUT);
    let mut waits = Box::pin(pool.acquire(1, Isolation::Shared, &mut attempts));
    assert!(poll!(&mut waits).is_pending(), "the other shard hasn't noticed yet");
    pool.link(0, 1, 2, 1);
    assert_eq!(*waits.await.unwrap().link(), 1);
}

#[tokio::test]
async fn the_next_exclusive_request_continues_if_the_previous_one_loses_its_worker() {
    let pool = pool(2, 1);
    let first = exclusive(&pool).await;
    let mut second = Box::pin(exclusive(&pool));
    assert!(poll!(&mut second).is_pending(), "one at a time");
    pool.lose(0, *first.link());
    drop(first);
    assert_eq!(*second.await.link(), 2);
}

/// The response may take hours, as with server-sent events.
#[tokio::test]
async fn a_response_that_has_started_delays_no_exclusive_request() {
    let pool = pool(1, 2);
    let mut streams = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending(), "it isn't answered");
    streams.response_started();
    let had = waits.await;
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending(), "next to an exclusive request");
    drop(streams);
    assert!(poll!(&mut later).is_pending(), "the shared request ended, not the exclusive one");
    drop(had);
    later.await;
}

#[tokio::test]
async fn an_exclusive_request_needs_a_thread_that_is_free() {
    let pool = pool(1, 1);
    let mut streams = shared(&pool).await;
    streams.response_started();
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    drop(streams);
    waits.await;
}

/// Some requests of a lost worker take long to answer, such as long polls.
#[tokio::test]
async fn the_only_worker_is_reserved_for_a_second_over_all_exclusive_requests() {
    let pool = pool(1, 8);
    let first = exclusive(&pool).await;
    let (mut second, mut third) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    assert!(poll!(&mut later).is_pending());
    pool.age_reservation(RESERVATION_LIMIT / 2);
    drop(first);
    let second = second.await;
    assert!(poll!(&mut third).is_pending() && poll!(&mut later).is_pending());
    pool.age_reservation(RESERVATION_LIMIT / 2);
    pool.expire_reservation();
    let all = (second, third.await, later.await, shared(&pool).await);
    let mut fourth = Box::pin(exclusive(&pool));
    assert!(poll!(&mut fourth).is_pending(), "it gets its own second");
    drop(all);
    fourth.await;
}

#[tokio::test]
async fn each_exclusive_request_gets_a_second_if_another_worker_serves() {
    let pool = pool(2, 1);
    let first = exclusive(&pool).await;
    let busy = shared(&pool).await;
    let (mut second, mut third) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    pool.age_reservation(RESERVATION_LIMIT / 2);
    drop(first);
    let second = second.await;
    pool.age_reservation(RESERVATION_LIMIT / 2);
    pool.expire_reservation();
    assert!(poll!(&mut third).is_pending(), "the second has half of its time left");
    drop(second);
    third.await;
    drop(busy);
}

#[tokio::test]
async fn a_later_request_finds_the_worker_shared() {
    let pool = pool(1, 4);
    let _long = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    pool.age_reservation(RESERVATION_LIMIT);
    let _later = shared(&pool).await;
    let shares = waits.await;
    assert!(!shares.is_exclusive(), "it is still exclusive");
}

/// Nothing else happens in the pool meanwhile.
#[tokio::test(start_paused = true)]
async fn a_waiting_exclusive_request_ends_an_overdue_reservation() {
    let pool = pool(1, 4);
    let _long = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    pool.age_reservation(RESERVATION_LIMIT);
    waits.await;
    later.await;
}

/// A worker that dies leaves as many behind as it handles at once. Nobody waits until each was tried by itself.
#[tokio::test(start_paused = true)]
async fn many_exclusive_requests_share_workers_after_a_while() {
    let pool = pool(2, 100);
    let began = Instant::now();
    let mut waiting: Vec<_> = (0..10).map(|_| Some(Box::pin(exclusive(&pool)))).collect();
    while waiting.iter().any(Option::is_some) {
        let mut served = Vec::new();
        for request in &mut waiting {
            if let Some(waits) = request
                && let std::task::Poll::Ready(lease) = poll!(waits)
            {
                served.push(lease);
                *request = None;
            }
        }
        tokio::time::advance(Duration::from_millis(900)).await;
        pool.expire_reservation();
        drop(served);
    }
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}
