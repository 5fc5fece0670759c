//! Drains of workers with open WebSockets.

use api::runner::serve_response::Message;
use api::runner::{Request, SocketClose};
use api::worker::Load;
use rustix::process::{Pid, Signal, kill_process};

use crate::front::{Front, get};
use crate::process::{App, Worker, within};

/// Accepts each WebSocket, and reports how it ends. A request never ends.
const APP: &str = r#"
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not supported")
    if scope["type"] == "http":
        print("a request runs", flush=True)
        await asyncio.Event().wait()
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    event = await receive()
    print("ended by", event["type"], event["code"], flush=True)
"#;

const HOUR: u32 = 3_600_000;
/// The code of a service restart (RFC 6455 and the registry of IANA).
const RESTART: u32 = 1012;

/// A worker that nothing but its orders limits, and a frontd.
async fn worker() -> (Worker, Front) {
    let worker = App { stop_milliseconds: 600_000, ..App::new(APP) }.ready().await;
    let front = worker.front(1).await;
    (worker, front)
}

/// Opens a WebSocket, and waits until emperord knows of it.
async fn open(worker: &mut Worker, front: &mut Front) -> u64 {
    let id = front.send(Request { websocket: true, ..get("/chat") }).await;
    let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
    assert_eq!((response.id, response.status, response.done), (id, 101, false));
    loads(worker, |load| load.sockets == 1).await;
    id
}

async fn loads(worker: &mut Worker, reached: impl Fn(&Load) -> bool) {
    while !reached(&within(worker.emperor.load()).await) {}
}

/// The worker closes the WebSocket, then ends.
async fn closes(worker: &mut Worker, front: &mut Front, id: u64) {
    let mut is_done = false;
    while !is_done {
        match within(front.next()).await.expect("the worker is there") {
            Message::SocketClose(SocketClose { id: of, code, .. }) => assert_eq!((of, code), (id, RESTART)),
            Message::Done(done) => is_done = done.id == id,
            Message::Draining(_) => {}
            other => panic!("{other:?}"),
        }
    }
    front.half_close();
    assert_eq!(worker.exit_code().await, Some(0));
    let log = worker.log().await;
    assert!(log.contains(&format!("ended by websocket.disconnect {RESTART}")), "{log}");
}

fn terminate(worker: &Worker) {
    let pid = Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

#[tokio::test]
async fn open_websockets_keep_a_draining_worker_until_a_later_order() {
    let (mut worker, mut front) = worker().await;
    let id = open(&mut worker, &mut front).await;
    worker.emperor.drain_for(1, HOUR).await;
    assert!(matches!(within(front.next()).await, Some(Message::Draining(_))));
    worker.logs("only WebSockets keep this worker").await;
    worker.emperor.drain_for(600_000, 1).await;
    closes(&mut worker, &mut front, id).await;
}

#[tokio::test]
async fn requests_are_aborted_in_time_although_a_websocket_is_open() {
    let (mut worker, mut front) = worker().await;
    let id = open(&mut worker, &mut front).await;
    let request = front.send(get("/")).await;
    worker.logs("a request runs").await;
    worker.emperor.drain_for(1, HOUR).await;
    loop {
        match within(front.next()).await.expect("the worker is there") {
            Message::Done(done) if done.id == request => break,
            Message::Response(response) if response.id == request && response.done => break,
            Message::SocketClose(close) => panic!("{close:?}"),
            _ => {}
        }
    }
    worker.emperor.drain_for(600_000, 1).await;
    closes(&mut worker, &mut front, id).await;
}

#[tokio::test]
async fn sigterm_closes_websockets_of_a_serving_and_of_a_draining_worker() {
    for drains_before in [false, true] {
        let (mut worker, mut front) = worker().await;
        let id = open(&mut worker, &mut front).await;
        if drains_before {
            worker.emperor.drain_for(1, HOUR).await;
            worker.logs("only WebSockets keep this worker").await;
        }
        terminate(&worker);
        closes(&mut worker, &mut front, id).await;
    }
}

#[tokio::test]
async fn the_last_websocket_that_its_client_closes_ends_a_draining_worker() {
    let (mut worker, mut front) = worker().await;
    let id = open(&mut worker, &mut front).await;
    worker.emperor.drain_for(1, HOUR).await;
    worker.logs("only WebSockets keep this worker").await;
    front.close_socket(id, 1000).await;
    while !matches!(within(front.next()).await, Some(Message::Done(done)) if done.id == id) {}
    front.half_close();
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(worker.log().await.contains("ended by websocket.disconnect 1000"));
}
