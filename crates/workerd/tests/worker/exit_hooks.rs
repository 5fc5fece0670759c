//! `imperium.on_worker_exit`: hooks that raise, hang, or are called while every thread is busy.

use api::runner::serve_response::Message;

use crate::front::get;
use crate::process::{App, within};

/// `/hold` is busy until the hooks for pid 3 have been called, and responds with all pids.
const APP: &str = r#"
import imperium, threading, time

called = []
third = threading.Event()

@imperium.on_worker_exit
def broken(pid):
    if pid == 1:
        raise RuntimeError(f"cannot forget {pid}")

@imperium.on_worker_exit
def slow(pid):
    while pid == 2:
        time.sleep(0.001)

@imperium.on_worker_exit
def note(pid):
    called.append(pid)
    if pid == 3:
        third.set()

def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        third.wait(40)
    start_response("200 OK", [])
    return [repr(called).encode()]
"#;

#[tokio::test]
async fn exit_hooks_run_while_all_threads_are_busy_and_hanging_ones_are_interrupted() {
    let mut worker = App::new(APP).ready().await;
    let mut front = worker.front(1).await;
    let id = within(front.send(get("/hold"))).await;
    for pid in 1..=3 {
        worker.emperor.ended(pid).await;
    }
    worker.logs("cannot forget 1").await;
    worker.logs("has not returned for").await;
    // Where the hook hangs.
    worker.logs("in slow").await;
    let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
    assert_eq!((response.id, &*response.body), (id, &b"[1, 2, 3]"[..]));
}

#[tokio::test]
async fn an_uninterruptible_exit_hook_delays_neither_requests_nor_the_exit() {
    let app = APP.replace("time.sleep(0.001)", "hang()");
    let hang = "\ndef hang():\n    try:\n        while True:\n            time.sleep(0.001)\n    except TimeoutError:\n        hang()\n";
    let mut worker = App::new(&format!("{app}{hang}")).ready().await;
    let mut front = worker.front(1).await;
    worker.emperor.ended(2).await;
    worker.logs("cannot be ended").await;
    worker.emperor.ended(1).await;
    assert_eq!(within(front.fetch(get("/"))).await.body, "[]");
    worker.emperor.drain(60_000).await;
    drop(front);
    assert_eq!(worker.exit_code().await, Some(0));
}
