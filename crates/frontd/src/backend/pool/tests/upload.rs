//! Requests that are admitted before their body is read.

use super::*;
use crate::backend::pool::upload::UPLOADS_PER_CLIENT;

#[tokio::test]
async fn a_failed_app_admits_no_upload_unless_it_has_workers() {
    let pool = pool();
    pool.admit(Admission::Refuse(2));
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Failed);
    pool.link(0, 1, 1, "a");
    pool.admit_upload(CLIENT).unwrap();
}

#[tokio::test]
async fn a_full_queue_admits_no_upload() {
    let pool = pool();
    let waiting = [(); 2].map(|()| Box::pin(acquire(&pool, 0)));
    let [mut first, mut second] = waiting;
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(pool.admit_upload(CLIENT).unwrap());
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Full);
    drop(first);
    pool.admit_upload(CLIENT).unwrap();
}

#[tokio::test]
async fn without_a_queue_an_upload_needs_a_worker_with_room() {
    let pool = Pool::new(Admission::Queue(0));
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Full);
    pool.link(0, 1, 1, "a");
    drop(pool.admit_upload(CLIENT).unwrap());
    let _busy = acquire(&pool, 0).await.unwrap();
    assert_eq!(pool.admit_upload(CLIENT).unwrap_err(), Refused::Full);
}

#[tokio::test]
async fn one_address_gets_a_part_of_the_uploads_of_an_app() {
    let pool = pool();
    let address = |it: u32| IpAddr::from(Ipv4Addr::from_bits(it));
    let mut uploads = Vec::new();
    for client in 0..4 {
        uploads.extend((0..UPLOADS_PER_CLIENT).map(|_| pool.admit_upload(address(client)).unwrap()));
        assert_eq!(pool.admit_upload(address(client)).unwrap_err(), Refused::TooManyUploadsOfClient);
    }
    assert_eq!(pool.admit_upload(address(4)).unwrap_err(), Refused::TooManyUploads, "over all addresses");
    drop(uploads.pop());
    drop(pool.admit_upload(address(4)).unwrap());
    drop(uploads);
    assert_eq!(pool.uploads(), 0);
}

#[tokio::test]
async fn an_admitted_request_is_not_refused_because_the_queue_is_full() {
    let pool = pool();
    drop(pool.admit_upload(CLIENT).unwrap());
    let (mut first, mut second) = (Box::pin(acquire(&pool, 0)), Box::pin(acquire(&pool, 0)));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    let mut attempts = Attempts::new(QUEUE_TIMEOUT).admitted();
    let mut uploaded = Box::pin(pool.acquire(0, Isolation::Shared, &mut attempts));
    assert!(futures_util::poll!(&mut uploaded).is_pending());
    drop((first, second));
    pool.link(0, 1, 1, "a");
    uploaded.await.unwrap();
}
