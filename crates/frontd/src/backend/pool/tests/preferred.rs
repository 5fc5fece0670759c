//! Requests that prefer a worker.

use std::num::NonZeroU64;

use super::*;

async fn prefer(pool: &Arc<Pool<&'static str>>, instance: u64) -> Lease<&'static str> {
    let mut attempts = Attempts::new(QUEUE_TIMEOUT);
    attempts.prefer(NonZeroU64::new(instance));
    pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap()
}

#[tokio::test]
async fn a_preferred_worker_gets_the_request_while_it_has_room() {
    let pool = pool();
    pool.link(0, 1, 2, "a");
    pool.link(0, 2, 2, "b");
    let first = prefer(&pool, 2).await;
    let second = prefer(&pool, 2).await;
    assert_eq!([*first.link(), *second.link()], ["b", "b"], "although a is less busy");
    let third = prefer(&pool, 2).await;
    assert_eq!(*third.link(), "a", "b is full");
    assert_eq!((second.instance(), third.instance()), (2, 1));
}

#[tokio::test]
async fn a_preferred_worker_that_is_gone_or_unknown_is_no_obstacle() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.link(0, 2, 1, "b");
    pool.unlink(0, 2);
    assert_eq!(*prefer(&pool, 2).await.link(), "a");
    assert_eq!(*prefer(&pool, 77).await.link(), "a");
}

#[tokio::test]
async fn a_worker_that_handed_a_request_back_is_not_preferred_for_a_while() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.link(0, 2, 1, "b");
    prefer(&pool, 2).await.declined();
    assert_eq!(*prefer(&pool, 2).await.link(), "a");
}

#[tokio::test]
async fn a_request_that_waits_goes_to_whichever_worker_is_free_first() {
    let pool = pool();
    pool.link(0, 1, 1, "a");
    pool.link(0, 2, 1, "b");
    let (on_a, _on_b) = (prefer(&pool, 1).await, prefer(&pool, 2).await);
    let mut waiting = std::pin::pin!(prefer(&pool, 2));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(on_a);
    assert_eq!(*waiting.await.link(), "a");
}
