//! Recalls, cancellations and drains of started and waiting requests, while Python is busy.

use api::runner::serve_response::Message;
use api::worker::attach_request::Message as Report;

use crate::front::{Front, get, post, request};
use crate::process::{App, Worker, within};

/// Busy, holding the GIL, until the file named by the query exists.
const GATED: &str = r#"
import os

def application(environ, start_response):
    open(environ["QUERY_STRING"] + ".begun", "w").close()
    while not os.path.exists(environ["QUERY_STRING"]):
        pass
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]
"#;

/// A worker that is processing its first request.
async fn busy() -> (Worker, Front, u64) {
    let worker = App::new(GATED).ready().await;
    let mut front = worker.front(1).await;
    let id = front.send(get(&target(&worker, "first"))).await;
    let begun = worker.path("first.begun");
    within(async {
        while !begun.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    (worker, front, id)
}

fn target(worker: &Worker, gate: &str) -> String {
    format!("/{gate}?{}", worker.path(gate).display())
}

fn open_gate(worker: &Worker, gate: &str) {
    std::fs::write(worker.path(gate), "").unwrap();
}

async fn handed_back(front: &mut Front) -> Vec<u64> {
    match within(front.next()).await {
        Some(Message::HandedBack(handed_back)) => handed_back.ids,
        other => panic!("{other:?} hands nothing back"),
    }
}

async fn body(front: &mut Front) -> String {
    match within(front.next()).await {
        Some(Message::Response(response)) => String::from_utf8(response.body.into()).unwrap(),
        other => panic!("{other:?} is no response"),
    }
}

#[tokio::test]
async fn waiting_requests_are_recalled_while_python_is_busy() {
    let (worker, mut front, first) = busy().await;
    let second = front.send(get(&target(&worker, "second"))).await;
    let third = front.send(get(&target(&worker, "third"))).await;
    front.recall(first).await;
    front.recall(second).await;
    assert_eq!(handed_back(&mut front).await, [second]);
    front.cancel(third).await;
    assert_eq!(handed_back(&mut front).await, [third]);
    open_gate(&worker, "first");
    assert_eq!(body(&mut front).await, "/first");
    assert!(!worker.path("second.begun").exists() && !worker.path("third.begun").exists());
}

#[tokio::test]
async fn a_response_does_not_wait_for_the_next_request() {
    let (worker, mut front, _) = busy().await;
    open_gate(&worker, "second");
    front.send(get(&target(&worker, "second"))).await;
    front.send(get(&target(&worker, "third"))).await;
    open_gate(&worker, "first");
    assert_eq!(body(&mut front).await, "/first");
    assert_eq!(body(&mut front).await, "/second");
    open_gate(&worker, "third");
    assert_eq!(body(&mut front).await, "/third");
}

#[tokio::test]
async fn only_the_start_of_an_unsafe_request_is_reported_before_python_runs() {
    let app = r#"
import os, signal

def application(environ, start_response):
    os.kill(os.getpid(), signal.SIGKILL)
"#;
    for (method, is_reported) in [("GET", false), ("POST", true), ("DELETE", true)] {
        let worker = App::new(app).ready().await;
        let mut front = worker.front(1).await;
        let id = front.send(request(method, "/")).await;
        if is_reported {
            assert!(
                matches!(within(front.next()).await, Some(Message::Begun(begun)) if begun.id == id),
                "{method}"
            );
        }
        assert!(within(front.is_broken()).await, "{method}");
    }
}

#[tokio::test]
async fn a_drain_finishes_running_requests_and_hands_back_the_rest() {
    let (mut worker, mut front, _) = busy().await;
    let second = front.send(post(&target(&worker, "second"), "x")).await;
    worker.emperor.drain(60_000).await;
    assert!(matches!(within(front.next()).await, Some(Message::Draining(_))));
    assert_eq!(handed_back(&mut front).await, [second]);
    let third = front.send(get(&target(&worker, "third"))).await;
    assert_eq!(handed_back(&mut front).await, [third]);
    open_gate(&worker, "first");
    assert_eq!(body(&mut front).await, "/first");
    front.half_close();
    assert_eq!(within(front.next()).await, None);
    assert!(matches!(within(worker.emperor.next_message()).await, Report::Draining(_)));
    assert!(matches!(within(worker.emperor.next_message()).await, Report::Drained(_)));
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(!std::path::Path::new(&worker.spec.socket).exists());
}

#[tokio::test]
async fn requests_of_a_lost_frontd_are_dropped() {
    let (worker, front, _) = busy().await;
    let mut other = worker.front(2).await;
    let mut front = front;
    front.send(get(&target(&worker, "second"))).await;
    drop(front);
    open_gate(&worker, "third");
    open_gate(&worker, "first");
    other.send(get(&target(&worker, "third"))).await;
    assert_eq!(body(&mut other).await, "/third");
    assert!(!worker.path("second.begun").exists());
}
