//! Bodies that don't fit inline, in both directions.

use api::runner::Request;
use api::runner::serve_response::Message;

use crate::front::{Call, Front, get, request};
use crate::process::{App, Worker, within};

const CHUNK: usize = 64 << 10;

/// Sends a request, and opens the call for its streamed response.
async fn streamed(front: &mut Front, sent: Request) -> Call {
    let id = front.send(sent).await;
    let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
    assert_eq!((response.id, response.streamed, response.done, response.body.len()), (id, true, false, 0));
    within(front.exchange(id)).await
}

async fn is_done(front: &mut Front) {
    assert!(matches!(within(front.next()).await, Some(Message::Done(_))));
}

async fn ready(source: &str) -> (Worker, Front) {
    let worker = App::new(source).ready().await;
    let front = worker.front(1).await;
    (worker, front)
}

#[tokio::test]
async fn a_chunk_does_not_wait_for_the_next() {
    let app = r#"
import os, time

def application(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    while not os.path.exists(environ["QUERY_STRING"]):
        pass
    yield b"second"
"#;
    let (worker, mut front) = ready(app).await;
    let gate = worker.path("gate");
    let mut call = streamed(&mut front, get(&format!("/?{}", gate.display()))).await;
    assert_eq!(within(call.chunk()).await.unwrap().unwrap(), "first");
    std::fs::write(gate, "").unwrap();
    assert_eq!(within(call.rest()).await.unwrap(), b"second");
    is_done(&mut front).await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    let app = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", environ["CONTENT_LENGTH"])])
    body = environ["wsgi.input"]
    while piece := body.read(100_000):
        yield piece
"#;
    let (_worker, mut front) = ready(app).await;
    let chunk = |n: usize| (0..CHUNK).map(|at| u8::try_from((at * 7 + n) % 251).unwrap()).collect::<Vec<_>>();
    let number = 320;
    let id = front.send(Request { body_length: (number * CHUNK) as u64, ..request("PUT", "/") }).await;
    assert!(matches!(within(front.next()).await, Some(Message::Begun(_))));
    assert!(matches!(within(front.next()).await, Some(Message::NeedBody(need)) if need.id == id));
    let mut call = within(front.exchange(id)).await;
    let chunks = call.chunks.clone();
    let up = async {
        for n in 0..number {
            let message = Some(api::runner::exchange_request::Message::Chunk(chunk(n).into()));
            chunks.send(api::runner::ExchangeRequest { message }).await.unwrap();
        }
        assert!(matches!(front.next().await, Some(Message::Response(response)) if response.streamed));
    };
    let ((), body) = within(async { tokio::join!(up, call.rest()) }).await;
    assert!(body.unwrap() == (0..number).flat_map(chunk).collect::<Vec<_>>(), "the body came back changed");
    is_done(&mut front).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_blocks_only_its_own_request() {
    let app = r#"
made = 0

def body():
    global made
    while True:
        made += 1
        yield b"x" * 65536

def application(environ, start_response):
    start_response("200 OK", [])
    return body() if environ["PATH_INFO"] == "/body" else [b"%d" % made]
"#;
    let worker = App { threads: 2, ..App::new(app) }.ready().await;
    let mut front = worker.front(1).await;
    let mut call = streamed(&mut front, get("/body")).await;
    within(call.chunk()).await.unwrap().unwrap();
    let (mut before, mut same) = (0, 0);
    while same < 20 {
        let made = front.fetch(get("/made")).await.body;
        let made: usize = str::from_utf8(&made).unwrap().parse().unwrap();
        assert!(made * CHUNK < 4 << 20, "{made} chunks were made");
        same = if made == before { same + 1 } else { 0 };
        before = made;
    }
}

#[tokio::test]
async fn an_incomplete_body_is_distinguished_from_a_complete_one() {
    let app = r#"
def body(pieces):
    yield from pieces
    raise ValueError("halfway")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    if environ["PATH_INFO"] == "/raise":
        return body([b"half"])
    return iter([b"short", b"er"])
"#;
    let (_worker, mut front) = ready(app).await;
    for (path, got) in [("/raise", "half"), ("/short", "shorter")] {
        let mut call = streamed(&mut front, get(path)).await;
        let mut body = Vec::new();
        let end = loop {
            match within(call.chunk()).await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => panic!("{path} ended as if it were complete"),
                Err(status) => break status,
            }
        };
        assert_eq!((&*body, end.code()), (got.as_bytes(), tonic::Code::Aborted), "{path}");
        is_done(&mut front).await;
    }
}

#[tokio::test]
async fn a_body_is_truncated_to_its_content_length() {
    let app = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return iter([b"abc", b"def", b"ghi"])
"#;
    let (_worker, mut front) = ready(app).await;
    let mut call = streamed(&mut front, get("/")).await;
    assert_eq!(within(call.rest()).await.unwrap(), b"abcde");
    is_done(&mut front).await;
}

/// An endless body that records how it ended.
const ENDLESS: &str = r#"
class Body:
    def __init__(self, environ):
        self.record = environ["QUERY_STRING"]
    def __iter__(self):
        return self
    def __next__(self):
        return b"x" * 65536
    def close(self):
        open(self.record, "w").write("closed")

def application(environ, start_response):
    write = start_response("200 OK", [])
    if environ["PATH_INFO"] == "/write":
        try:
            while True:
                write(b"x" * 65536)
        except OSError as error:
            open(environ["QUERY_STRING"], "w").write(type(error).__name__)
            raise
    return Body(environ)
"#;

#[tokio::test]
async fn a_disconnected_client_ends_the_body() {
    let (worker, mut front) = ready(ENDLESS).await;
    for (path, by_call, recorded) in [
        ("/", true, "closed"),
        ("/", false, "closed"),
        ("/write", true, "BrokenPipeError"),
        ("/write", false, "BrokenPipeError"),
    ] {
        let record = worker.path("record");
        let mut call = streamed(&mut front, get(&format!("{path}?{}", record.display()))).await;
        within(call.chunk()).await.unwrap().unwrap();
        if by_call {
            drop(call);
        } else {
            front.cancel(front.last_id()).await;
        }
        is_done(&mut front).await;
        assert_eq!(std::fs::read_to_string(record).unwrap(), recorded, "{path}");
    }
}

#[tokio::test]
async fn a_truncated_upload_is_an_error_for_the_app() {
    let app = r#"
def application(environ, start_response):
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        start_response("200 OK", [])
        return [str(error).encode()]
"#;
    let (_worker, mut front) = ready(app).await;
    let id = front.send(Request { body_length: 1000, ..request("POST", "/") }).await;
    assert!(matches!(within(front.next()).await, Some(Message::Begun(_))));
    assert!(matches!(within(front.next()).await, Some(Message::NeedBody(_))));
    let call = within(front.exchange(id)).await;
    call.send("only this").await;
    drop(call.chunks);
    let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
    assert_eq!(response.body, "read the request body: it was cut off with 991 bytes missing");
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_is_not_requested() {
    let app = r#"
kept = None

def application(environ, start_response):
    global kept
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/later":
        try:
            kept.read(1)
        except OSError as error:
            return [str(error).encode()]
    kept = environ["wsgi.input"]
    return [b"did not read it"]
"#;
    let (_worker, mut front) = ready(app).await;
    let response = within(front.fetch(Request { body_length: 1 << 30, ..request("POST", "/") })).await;
    assert_eq!(response.body, "did not read it");
    let response = within(front.fetch(get("/later"))).await;
    assert_eq!(response.body, "read the request body: the request is over");
}
