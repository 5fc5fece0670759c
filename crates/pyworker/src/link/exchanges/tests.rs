//! Scenarios with a few requests and their sessions.

use std::time::Duration;

use api::runner::{HandedBack, ServeResponse};
use tokio::sync::mpsc::UnboundedReceiver;

use super::look::LOOKS_LIMIT;
use super::*;

type Outgoing = UnboundedReceiver<ServeResponse>;

fn session(exchanges: &Exchanges, stream: u64) -> (Arc<Session>, Outgoing) {
    let (session, outgoing) = Session::new(stream, 0);
    let session = Arc::new(session);
    exchanges.open(&session);
    (session, outgoing)
}

fn submit(exchanges: &Exchanges, session: &Arc<Session>, ids: &[u64]) {
    for id in ids {
        exchanges.submit(session, Request { id: *id, ..Request::default() });
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
    let exchanges = Exchanges::default();
    let (session, mut outgoing) = session(&exchanges, 1);
    submit(&exchanges, &session, &[1, 2, 3]);
    let first = exchanges.next().await.unwrap();
    for id in [1, 2, 9] {
        exchanges.recall(&session, id);
    }
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert_eq!((first.exchange.id, exchanges.next().await.unwrap().exchange.id), (1, 3));
    let _others = exchanges.end(&first.exchange);
    assert_eq!(exchanges.work(), Work { busy: 1, ended: 1 });
}

#[tokio::test]
async fn a_cancel_hands_back_waiting_requests_and_notifies_running_ones() {
    let exchanges = Exchanges::default();
    let (session, mut outgoing) = session(&exchanges, 1);
    submit(&exchanges, &session, &[1, 2]);
    let first = exchanges.next().await.unwrap();
    exchanges.cancel(&session, 2);
    exchanges.cancel(&session, 1);
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert!(first.exchange.is_gone());
}

#[tokio::test]
async fn a_drain_hands_back_waiting_and_later_requests() {
    let exchanges = Exchanges::default();
    let (one, mut to_one) = session(&exchanges, 1);
    submit(&exchanges, &one, &[1, 2]);
    let begun = exchanges.next().await.unwrap();
    exchanges.drain();
    submit(&exchanges, &one, &[3]);
    let (_two, mut to_two) = session(&exchanges, 2);
    let draining = || Message::Draining(Draining {});
    assert_eq!(sent(&mut to_one), [draining(), handed_back(2), handed_back(3)]);
    assert_eq!(sent(&mut to_two), [draining()]);
    assert!(exchanges.next().await.is_none());
    assert!(!begun.exchange.is_gone(), "what has begun is finished");

    let (_, ()) = tokio::join!(exchanges.all_half_closed(), async {
        exchanges.half_close(1);
        exchanges.half_close(2);
    });
}

#[tokio::test]
async fn a_lost_session_drops_its_requests() {
    let exchanges = Exchanges::default();
    let (one, _to_one) = session(&exchanges, 1);
    let (two, _to_two) = session(&exchanges, 2);
    submit(&exchanges, &one, &[1, 2]);
    submit(&exchanges, &two, &[1]);
    let begun = exchanges.next().await.unwrap();
    exchanges.lose(1);
    assert!(begun.exchange.is_gone());
    assert_eq!(exchanges.next().await.unwrap().exchange.session.stream, 2);
}

#[tokio::test]
async fn requests_that_wait_too_long_are_handed_back() {
    let exchanges = Exchanges::default();
    let (session, mut outgoing) = session(&exchanges, 1);
    submit(&exchanges, &session, &[1, 2]);
    exchanges.next().await.unwrap();
    for _ in 0..LOOKS_LIMIT {
        exchanges.look(Duration::ZERO);
    }
    submit(&exchanges, &session, &[3]);
    assert_eq!(sent(&mut outgoing), []);
    exchanges.look(Duration::ZERO);
    assert_eq!(sent(&mut outgoing), [handed_back(2)]);
    assert_eq!(exchanges.next().await.unwrap().exchange.id, 3);
}

#[test]
fn waiting_requests_are_bounded() {
    let exchanges = Exchanges::default();
    let (session, mut outgoing) = session(&exchanges, 1);
    submit(&exchanges, &session, &(0..=WAITING_LIMIT as u64).collect::<Vec<_>>());
    assert_eq!(sent(&mut outgoing), [handed_back(WAITING_LIMIT as u64)]);
}
