//! The time limits of a request: what they interrupt, and what counts towards them.

use api::runner::serve_response::Message;
use api::runner::{Request, Response};

use crate::front::{Front, get, post};
use crate::process::{App, within};

/// Each path is interrupted in another way. `/seen` returns what was raised where.
const APP: &str = r#"
import imperium, signal, threading, time

SIGNAL = {signal.SIGRTMAX - 1}
seen = []

def read(environ, write):
    environ["wsgi.input"].read()

def write(environ, write):
    while True:
        write(b"")
        time.sleep(0.001)

def note(name, act, *arguments):
    try:
        act(*arguments)
    except BaseException as error:
        seen.append(f"{name}: {type(error).__name__}")
    else:
        seen.append(f"{name}: nothing")

def until_interrupted():
    # What was sent meanwhile is handled here. The limit is that of a test that fails.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNAL)
    for _ in range(2000):
        time.sleep(0.001)

def application(environ, start_response):
    path = environ["PATH_INFO"]
    write_piece = start_response("200 OK", [])
    if path == "/seen":
        return [", ".join(seen).encode()]
    if path == "/late":
        note("app", write_piece, b"piece")
        return []
    helper = {"/read": read, "/write": write}[path]
    # So that the helper is notified first.
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNAL)
    thread = threading.Thread(target=note, args=("helper", helper, environ, write_piece))
    thread.start()
    thread.join()
    note("app", until_interrupted)
    return []
"#;

async fn ended(front: &mut Front) {
    while !matches!(
        within(front.next()).await,
        Some(Message::Done(_) | Message::Response(Response { done: true, .. }))
    ) {}
}

async fn seen(front: &mut Front) -> String {
    let body = within(front.fetch(get("/seen"))).await.body;
    String::from_utf8(body.into()).unwrap()
}

#[tokio::test]
async fn only_the_thread_of_the_request_gets_the_exception() {
    for (path, helper) in [("/read", "OSError"), ("/write", "BrokenPipeError")] {
        let worker = App::new(APP).ready().await;
        let mut front = worker.front(1).await;
        let late = Request { limit_milliseconds: 200, body_length: 10, ..post(path, "") };
        within(front.send(late)).await;
        ended(&mut front).await;
        assert_eq!(seen(&mut front).await, format!("helper: {helper}, app: RequestTimeout"), "{path}");
    }
}

#[tokio::test]
async fn waiting_for_frontd_does_not_count_as_idle() {
    let worker = App::new(APP).ready().await;
    let mut front = worker.front(1).await;
    let answered = Request { idle_milliseconds: 200, ..get("/late") };
    within(front.send(answered)).await;
    // `Exchange` isn't called for the body.
    ended(&mut front).await;
    assert_eq!(seen(&mut front).await, "app: BrokenPipeError");
}
