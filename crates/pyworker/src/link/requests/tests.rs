//! Scenarios with a few requests and their sessions.

use std::num::NonZeroU64;
use std::time::Duration;

use api::runner::{HandedBack, ServeResponse};
use tokio::sync::mpsc::UnboundedReceiver;

use super::look::LOOKS_LIMIT;
use super::*;

type Outgoing = UnboundedReceiver<ServeResponse>;

fn session(requests: &Requests, stream: u64) -> (Arc<Session>, Outgoing) {
    let (session, outgoing) = Session::new(stream, 0);
    let session = Arc::new(session);
    requests.open(&session);
    (session, outgoing)
}

fn submit(requests: &Requests, session: &Arc<Session>, ids: &[u64]) {
    for id in ids {
        requests.submit(session, Request { id: *id, ..Request::default() });
    }
}

fn sent(outgoing: &mut Outgoing) -> Vec<Message> {
    std::iter::from_fn(|| outgoing.try_recv().ok()).filter_map(|it| it.message).collect()
}

fn handed_back(id: u64) -> Message {
    Message::HandedBack(HandedBack { ids: vec![id] })
}

#[tokio::test]
async fn requests_are_served_in_order_and_recalled_only_before_they_start() {
    let requests = Requests::default();
    let (session, mut outgoing) = session(&requests, 1);
    submit(&requests, &session, &[1, 2, 3]);
    let first = requests.next().await.unwrap();
    for id in [1, 2, 9] {
        requests.recall(&session, id);
    }
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert_eq!((first.id, requests.next().await.unwrap().id), (1, 3));
    let _others = requests.end(&first);
    assert_eq!(requests.work(), Work { busy: 1, ended: 1 });
}

#[tokio::test]
async fn a_cancel_hands_back_waiting_requests_and_notifies_running_ones() {
    let requests = Requests::default();
    let (session, mut outgoing) = session(&requests, 1);
    submit(&requests, &session, &[1, 2]);
    let first = requests.next().await.unwrap();
    requests.cancel(&session, 2);
    requests.cancel(&session, 1);
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert!(first.is_gone());
}

#[tokio::test]
async fn a_drain_hands_back_waiting_and_later_requests() {
    let requests = Requests::default();
    let (one, mut to_one) = session(&requests, 1);
    submit(&requests, &one, &[1, 2]);
    let active = requests.next().await.unwrap();
    requests.drain();
    submit(&requests, &one, &[3]);
    let (_two, mut to_two) = session(&requests, 2);
    let draining = || Message::Draining(Draining {});
    assert_eq!(sent(&mut to_one), [draining(), handed_back(2), handed_back(3)]);
    assert_eq!(sent(&mut to_two), [draining()]);
    assert!(requests.next().await.is_none());
    assert!(!active.is_gone(), "what has begun is finished");

    let (_, ()) = tokio::join!(requests.all_half_closed(), async {
        requests.half_close(1);
        requests.half_close(2);
    });
}

#[tokio::test]
async fn a_lost_session_drops_its_requests() {
    let requests = Requests::default();
    let (one, _to_one) = session(&requests, 1);
    let (two, _to_two) = session(&requests, 2);
    submit(&requests, &one, &[1, 2]);
    submit(&requests, &two, &[1]);
    let active = requests.next().await.unwrap();
    requests.lose(1);
    assert!(active.is_gone());
    assert_eq!(requests.next().await.unwrap().session.stream, 2);
}

#[tokio::test]
async fn requests_that_wait_too_long_are_handed_back() {
    let requests = Requests::default();
    let (session, mut outgoing) = session(&requests, 1);
    submit(&requests, &session, &[1, 2]);
    requests.next().await.unwrap();
    for _ in 0..LOOKS_LIMIT {
        requests.look(Duration::ZERO);
    }
    submit(&requests, &session, &[3]);
    assert_eq!(sent(&mut outgoing), []);
    requests.look(Duration::ZERO);
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert_eq!(requests.next().await.unwrap().id, 3);
}

#[test]
fn waiting_requests_are_bounded() {
    let requests = Requests::default();
    let (session, mut outgoing) = session(&requests, 1);
    submit(&requests, &session, &(0..=WAITING_LIMIT as u64).collect::<Vec<_>>());
    assert_eq!(sent(&mut outgoing), [handed_back(WAITING_LIMIT as u64)]);
}

#[tokio::test]
async fn a_call_is_that_of_its_request_until_the_request_ends() {
    let requests = Requests::default();
    let (session, _outgoing) = session(&requests, 1);
    submit(&requests, &session, &[1, 2]);
    let [one, two] = [1, 2].map(|number| CallToken::new(NonZeroU64::new(number).unwrap()));
    let found = |call| requests.find_call(call).map(|it| it.id);
    let first = requests.next().await.unwrap();
    assert_eq!(found(one), None, "the app hasn't been called yet");
    first.deadline.enter(one);
    requests.next().await.unwrap().deadline.enter(two);
    assert_eq!((found(one), found(two)), (Some(1), Some(2)));
    let _others = requests.end(&first);
    assert_eq!((found(one), found(two)), (None, Some(2)));
}
