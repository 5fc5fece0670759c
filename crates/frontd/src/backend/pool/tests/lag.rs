//! Workers whose event loop is blocked, and workers that handle many requests at once.

use super::*;

#[tokio::test]
async fn a_blocked_worker_gets_no_requests_until_it_goes_on() {
    let pool = pool();
    pool.link(0, 1, 100, "a");
    pool.link(0, 2, 100, "b");
    pool.set_blocked(0, 1, true);
    assert_eq!(pool.stats().blocked, 1);
    let leases = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    assert_eq!(leases.each_ref().map(|it| *it.link()), ["b", "b"]);
    pool.set_blocked(0, 1, false);
    assert_eq!(*acquire(&pool, 0).await.unwrap().link(), "a");
    assert_eq!(pool.stats().blocked, 0);
}

/// A worker that is blocked hands back what it gets, so nothing would be gained by sending it anything.
#[tokio::test]
async fn requests_wait_for_the_first_worker_that_can_start_them() {
    let pool = pool();
    pool.link(0, 1, 2, "a");
    pool.link(0, 2, 2, "b");
    pool.set_blocked(0, 1, true);
    let _busy = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    pool.set_blocked(0, 2, true);
    let mut first = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut first).is_pending());
    pool.set_blocked(0, 1, false);
    assert_eq!(*first.await.unwrap().link(), "a");
}

#[tokio::test]
async fn the_room_of_blocked_workers_is_room_in_the_queue() {
    let pool = Pool::new(Admission::Queue(0));
    pool.link(0, 1, 2, "a");
    pool.set_blocked(0, 1, true);
    pool.admit_upload(CLIENT).expect("it can wait for the worker");
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(acquire(&pool, 0))).collect();
    for request in &mut waiting {
        assert!(futures_util::poll!(request).is_pending());
    }
    assert_eq!(acquire(&pool, 0).await.unwrap_err(), Refused::Full);
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Full);
    pool.set_blocked(0, 1, false);
    for request in waiting {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_is_blocked_until_all_its_links_say_that_it_goes_on() {
    let pool = pool();
    pool.link(0, 1, 100, "a from 0");
    pool.link(1, 1, 100, "a from 1");
    pool.set_blocked(0, 1, true);
    pool.set_blocked(1, 1, true);
    pool.set_blocked(0, 1, false);
    let mut waiting = Box::pin(acquire(&pool, 0));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    pool.unlink(1, 1);
    waiting.await.unwrap();
    // A shard without a link knows nothing.
    pool.set_blocked(1, 1, true);
    acquire(&pool, 0).await.unwrap();
}

#[tokio::test]
async fn a_worker_is_not_avoided_for_what_it_hands_back_while_it_is_blocked() {
    let pool = pool();
    pool.link(0, 1, 100, "a");
    pool.link(0, 2, 100, "b");
    let lease = acquire(&pool, 0).await.unwrap();
    assert_eq!(*lease.link(), "a");
    pool.set_blocked(0, 1, true);
    lease.declined();
    pool.set_blocked(0, 1, false);
    assert_eq!(*acquire(&pool, 0).await.unwrap().link(), "a");
}

#[tokio::test]
async fn a_request_that_may_kill_its_worker_waits_for_one_that_is_not_blocked() {
    let pool = pool();
    pool.link(0, 1, 100, "a");
    pool.link(0, 2, 100, "b");
    let busy = [acquire(&pool, 0).await.unwrap(), acquire(&pool, 0).await.unwrap()];
    pool.set_blocked(0, 1, true);
    let mut attempts = Attempts::new(QUEUE_TIMEOUT);
    let mut exclusive = Box::pin(pool.acquire(0, Isolation::Exclusive, &mut attempts));
    assert!(futures_util::poll!(&mut exclusive).is_pending());
    let [at_a, at_b] = busy;
    drop(at_a);
    assert!(futures_util::poll!(&mut exclusive).is_pending(), "it is idle, but blocked");
    drop(at_b);
    assert_eq!(*exclusive.await.unwrap().link(), "b");
}

/// Short requests from many clients, over several shards: they end in any order.
#[tokio::test]
async fn requests_spread_evenly_over_workers_that_handle_many_at_once() {
    const WORKERS: usize = 4;
    const CLIENTS: usize = 64;
    let pool = Pool::new(Admission::Queue(CLIENTS));
    for shard in 0..8 {
        for worker in 0..WORKERS {
            pool.link(shard, worker as u64, 100, worker);
        }
    }
    let (mut random, mut running, mut served) = (fastrand::Rng::with_seed(7), Vec::new(), [0; WORKERS]);
    for _ in 0..10_000 {
        if running.len() == CLIENTS {
            drop(running.swap_remove(random.usize(..CLIENTS)));
        }
        let mut attempts = Attempts::new(QUEUE_TIMEOUT);
        let lease = pool.acquire(random.usize(..8), Isolation::Shared, &mut attempts).await.unwrap();
        served[*lease.link()] += 1;
        running.push(lease);
        let in_flight = |worker| running.iter().filter(|it| *it.link() == worker).count();
        let counts: Vec<_> = (0..WORKERS).map(in_flight).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // The one that was just freed may have been any.
        assert!(most - least <= 1 || running.len() < CLIENTS, "{counts:?}");
    }
    assert!(served.iter().all(|it| (2300..2700).contains(it)), "{served:?}");
}
