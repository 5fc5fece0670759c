//! Requests that may share their worker with no other.

use futures_util::poll;

use super::*;
use crate::pool::dispatch::RESERVED;

fn pool(workers: u64, capacity: usize) -> Arc<Pool<u64>> {
    let pool = Pool::new(Admission::Queue(10));
    (1..=workers).for_each(|it| pool.link(0, it, capacity, it));
    pool
}

async fn shared(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.acquire(0, Mode::Shared, &mut Turn::new(PATIENCE)).await.unwrap()
}

async fn exclusive(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.acquire(0, Mode::Exclusive, &mut Turn::new(PATIENCE)).await.unwrap()
}

/// One that there is room for.
fn shared_now(pool: &Arc<Pool<u64>>) -> Lease<u64> {
    pool.state.lock().lease(pool, 0, Mode::Shared, Instant::now()).unwrap()
}

#[tokio::test]
async fn an_idle_worker_takes_an_exclusive_request_and_nothing_beside_it() {
    let pool = pool(2, 4);
    let first = shared(&pool).await;
    let second = exclusive(&pool).await;
    assert_eq!((*first.link(), *second.link()), (1, 2));
    let others = [shared(&pool).await, shared(&pool).await, shared(&pool).await];
    assert!(others.iter().all(|it| *it.link() == 1));
    let mut one_more = Box::pin(shared(&pool));
    assert!(poll!(&mut one_more).is_pending(), "beside an exclusive request");
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
    assert!(poll!(&mut waits).is_pending() && poll!(&mut later).is_pending(), "it is not idle");
    drop(second);
    let had = waits.await;
    assert!(poll!(&mut later).is_pending(), "beside an exclusive request");
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
async fn exclusive_requests_take_one_worker_in_all() {
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
async fn a_worker_that_has_answered_is_shared_again() {
    let pool = pool(1, 2);
    let mut streams = exclusive(&pool).await;
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    streams.has_answered();
    later.await;
}

#[tokio::test]
async fn another_worker_is_reserved_when_the_first_is_gone() {
    let pool = pool(2, 2);
    let busy = [(); 4].map(|()| shared_now(&pool));
    let [streams, b, c, d] = busy;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    pool.unlink(0, *streams.link());
    let mut later = Box::pin(shared(&pool));
    drop(b);
    assert!(poll!(&mut later).is_pending(), "the other is reserved in its place");
    drop((c, d));
    assert_eq!(*waits.await.link(), 2);
}

#[tokio::test]
async fn a_worker_that_one_shard_has_lost_is_given_nothing_until_it_is_linked_to_again() {
    let pool = pool(1, 2);
    pool.link(1, 1, 2, 1);
    pool.lose(0, 1);
    let mut turn = Turn::new(PATIENCE);
    let mut waits = Box::pin(pool.acquire(1, Mode::Shared, &mut turn));
    assert!(poll!(&mut waits).is_pending(), "the other shard does not know yet");
    pool.link(0, 1, 2, 1);
    assert_eq!(*waits.await.unwrap().link(), 1);
}

#[tokio::test]
async fn the_next_exclusive_request_goes_on_when_the_one_before_it_loses_its_worker() {
    let pool = pool(2, 1);
    let first = exclusive(&pool).await;
    let mut second = Box::pin(exclusive(&pool));
    assert!(poll!(&mut second).is_pending(), "one at a time");
    pool.lose(0, *first.link());
    drop(first);
    assert_eq!(*second.await.link(), 2);
}

/// It may go on for hours, as server-sent events do.
#[tokio::test]
async fn a_response_that_has_begun_holds_up_no_exclusive_request() {
    let pool = pool(1, 2);
    let mut streams = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending(), "it is not answered");
    streams.has_answered();
    let had = waits.await;
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending(), "beside an exclusive request");
    drop(streams);
    assert!(poll!(&mut later).is_pending(), "the end of the other is not its end");
    drop(had);
    later.await;
}

#[tokio::test]
async fn an_exclusive_request_needs_a_thread_that_is_free() {
    let pool = pool(1, 1);
    let mut streams = shared(&pool).await;
    streams.has_answered();
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    drop(streams);
    waits.await;
}

/// Of those that were at a worker that was lost, some are answered after a long time, as long polls are.
#[tokio::test]
async fn the_only_worker_is_reserved_for_a_second_over_all_exclusive_requests() {
    let pool = pool(1, 8);
    let first = exclusive(&pool).await;
    let (mut second, mut third) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    assert!(poll!(&mut later).is_pending());
    pool.age_reservation(RESERVED / 2);
    drop(first);
    let second = second.await;
    assert!(poll!(&mut third).is_pending() && poll!(&mut later).is_pending());
    pool.age_reservation(RESERVED / 2);
    pool.look();
    let all = (second, third.await, later.await, shared(&pool).await);
    let mut fourth = Box::pin(exclusive(&pool));
    assert!(poll!(&mut fourth).is_pending(), "it has a second of its own");
    drop(all);
    fourth.await;
}

#[tokio::test]
async fn each_exclusive_request_has_a_second_where_another_worker_serves() {
    let pool = pool(2, 1);
    let first = exclusive(&pool).await;
    let busy = shared(&pool).await;
    let (mut second, mut third) = (Box::pin(exclusive(&pool)), Box::pin(exclusive(&pool)));
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    pool.age_reservation(RESERVED / 2);
    drop(first);
    let second = second.await;
    pool.age_reservation(RESERVED / 2);
    pool.look();
    assert!(poll!(&mut third).is_pending(), "the second has half of its time left");
    drop(second);
    third.await;
    drop(busy);
}

#[tokio::test]
async fn a_request_that_comes_later_finds_the_worker_shared() {
    let pool = pool(1, 4);
    let _long = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    pool.age_reservation(RESERVED);
    let _later = shared(&pool).await;
    let shares = waits.await;
    assert!(!shares.is_exclusive(), "it came first");
}

/// Where nothing else happens.
#[tokio::test(start_paused = true)]
async fn who_waits_exclusively_ends_the_reservation_by_itself() {
    let pool = pool(1, 4);
    let _long = shared(&pool).await;
    let mut waits = Box::pin(exclusive(&pool));
    assert!(poll!(&mut waits).is_pending());
    let mut later = Box::pin(shared(&pool));
    assert!(poll!(&mut later).is_pending());
    pool.age_reservation(RESERVED);
    waits.await;
    later.await;
}
