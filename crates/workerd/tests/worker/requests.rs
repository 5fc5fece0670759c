//! What an app sees of a request, and how its response is delivered.

use api::runner::serve_response::Message;
use bytes::Bytes;

use crate::front::{get, header, post, request};
use crate::process::{App, within};

#[tokio::test]
async fn a_small_response_is_sent_inline() {
    let app = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [b"Hello, ", b"world\n"]
"#;
    let worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    assert_eq!(front.capacity, 1);
    for _ in 0..20 {
        let response = front.fetch(get("/")).await;
        assert_eq!((response.status, &*response.body, response.done), (200, &b"Hello, world\n"[..], true));
        assert_eq!(response.headers, [header("content-type", "text/plain")]);
    }
}

#[tokio::test]
async fn the_environ_is_complete() {
    let app = r#"
import json

def application(environ, start_response):
    start_response("200 OK", [])
    assert all(type(key) is str for key in environ)
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.input"] and environ["wsgi.errors"]
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, (str, bool))}).encode()]
"#;
    let worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    let mut sent = post("/blog/caf%C3%A9%2Fx?q=%20&r", "abc");
    sent.script_name = "/blog".into();
    sent.headers.extend([
        header("content-type", "text/plain"),
        header("content-length", "3"),
        header("accept", "text/html"),
        header("accept", "text/plain"),
        header("cookie", "a=1"),
        header("cookie", "b=2"),
        header("x-unheard-of", "\u{e9}"),
    ]);
    let response = within(front.fetch(sent)).await;
    assert_eq!(response.status, 200);
    let body = str::from_utf8(&response.body).unwrap();
    for expected in [
        r#""REQUEST_METHOD": "POST""#,
        r#""SCRIPT_NAME": "/blog""#,
        r#""PATH_INFO": "/caf\u00c3\u00a9/x""#,
        r#""QUERY_STRING": "q=%20&r""#,
        r#""REQUEST_URI": "/blog/caf%C3%A9%2Fx?q=%20&r""#,
        r#""SERVER_PROTOCOL": "HTTP/1.1""#,
        r#""SERVER_NAME": "blog.example""#,
        r#""SERVER_PORT": "443""#,
        r#""REMOTE_ADDR": "192.0.2.7""#,
        r#""REMOTE_PORT": "4711""#,
        r#""CONTENT_TYPE": "text/plain""#,
        r#""CONTENT_LENGTH": "3""#,
        r#""HTTPS": "on""#,
        r#""HTTP_HOST": "blog.example""#,
        r#""HTTP_ACCEPT": "text/html, text/plain""#,
        r#""HTTP_COOKIE": "a=1; b=2""#,
        r#""HTTP_X_UNHEARD_OF": "\u00c3\u00a9""#,
        r#""wsgi.url_scheme": "https""#,
        r#""wsgi.multithread": false"#,
        r#""wsgi.multiprocess": true"#,
        r#""wsgi.run_once": false"#,
        r#""imperium.request_id": "test-1""#,
    ] {
        assert!(body.contains(expected), "no {expected} in {body}");
    }
    assert!(!body.contains("HTTP_CONTENT"), "{body}");

    let body = front.fetch(get("/")).await.body;
    assert!(
        !str::from_utf8(&body).unwrap().contains("CONTENT_LENGTH"),
        "a request without a body has no length"
    );
}

#[tokio::test]
async fn the_body_can_be_read_in_every_way() {
    let app = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    body = environ["wsgi.input"]
    parts = [body.readline(), body.read(3), body.read(0), body.readline(2), *body.readlines(5), *body, body.read(), body.read(9)]
    return [b"|".join(parts)]
"#;
    let worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    let text = "first\nsecond\nthird\nfourth\nfifth\nsixth";
    let expected = "first\n|sec||on|d\n|third\n|fourth\n|fifth\n|sixth||";
    let inline = within(front.fetch(post("/", text))).await;
    assert_eq!(inline.body, expected);

    // The same over a separate call, in chunks that end at arbitrary offsets.
    let id =
        front.send(api::runner::Request { body_length: text.len() as u64, ..request("POST", "/") }).await;
    assert!(matches!(front.next().await, Some(Message::Begun(_))));
    assert!(matches!(within(front.next()).await, Some(Message::NeedBody(need)) if need.id == id));
    let call = front.exchange(id).await;
    for piece in text.as_bytes().chunks(5) {
        call.send(Bytes::copy_from_slice(piece)).await;
    }
    let Some(Message::Response(streamed)) = within(front.next()).await else { panic!("no response") };
    assert_eq!(streamed.body, expected);
}

/// Rows of app behaviour, with the status and body that the client gets.
const ANSWERS: &str = r#"
import sys

def boom():
    raise ValueError("boom")

def late(environ, start):
    yield b""
    start("201 Created", [])

def again(environ, start):
    start("200 OK", [])
    try:
        boom()
    except ValueError:
        start("503 Later", [("Retry-After", "7")], sys.exc_info())
    return [b"replaced"]

class Lazy:
    def __iter__(self):
        boom()

rows = {
    "/raise": (lambda e, s: boom(), 500, None),
    "/raise-after-start": (lambda e, s: (s("200 OK", []), boom()), 500, None),
    "/raise-in-iter": (lambda e, s: (s("200 OK", []), Lazy())[1], 500, None),
    "/exit": (lambda e, s: sys.exit(1), 500, None),
    "/interrupt": (lambda e, s: exec("raise KeyboardInterrupt"), 500, None),
    "/none": (lambda e, s: s("200 OK", []) and None, 500, None),
    "/no-start": (lambda e, s: [b"x"], 500, None),
    "/twice": (lambda e, s: (s("200 OK", []), s("200 OK", [])), 500, None),
    "/text": (lambda e, s: (s("200 OK", []), ["x"])[1], 500, None),
    "/bad-status": (lambda e, s: (s("OK", []), [b"x"])[1], 500, None),
    "/bad-status-type": (lambda e, s: (s(200, []), [b"x"])[1], 500, None),
    "/bad-headers-type": (lambda e, s: (s("200 OK", {}), [b"x"])[1], 500, None),
    "/bad-header-type": (lambda e, s: (s("200 OK", [("a", 1)]), [b"x"])[1], 500, None),
    "/bad-header": (lambda e, s: (s("200 OK", [("a", "b\r\nc: d")]), [b"x"])[1], 500, None),
    "/too-short": (lambda e, s: (s("200 OK", [("Content-Length", "9")]), [b"x"])[1], 500, None),
    "/too-long": (lambda e, s: (s("200 OK", [("Content-Length", "2")]), [b"x", b"yz"])[1], 200, "xy"),
    "/again": (again, 503, "replaced"),
    "/empty": (lambda e, s: (s("204 No Content", []), [])[1], 204, ""),
    "/tuple": (lambda e, s: (s("200 OK", []), (b"a", b"b"))[1], 200, "ab"),
    "/late": (late, 201, ""),
    "/write": (lambda e, s: (s("200 OK", [])(b"one "), [b"two"])[1], 200, "one two"),
    "/iterator": (lambda e, s: (s("200 OK", [("Content-Length", "1")]), iter([b"x"]))[1], 200, "x"),
    "/pieces": (lambda e, s: (s("200 OK", []), iter([b"x", b"", b"yz"]))[1], 200, "xyz"),
    "/big": (lambda e, s: (s("200 OK", []), [b"x" * 300000])[1], 200, "x" * 300000),
}

def application(environ, start_response):
    if environ["PATH_INFO"] == "/":
        start_response("200 OK", [])
        lines = [f"{path} {status} {'-' if body is None else '=' + body}" for path, (_, status, body) in rows.items()]
        return ["\n".join(lines).encode()]
    return rows[environ["PATH_INFO"]][0](environ, start_response)
"#;

#[tokio::test]
async fn every_kind_of_response_and_failure() {
    let mut worker = App::new(ANSWERS).ready().await;
    let mut front = worker.front(1).await;
    let rows = within(front.fetch(get("/"))).await.body;
    let mut failures = 0;
    for row in str::from_utf8(&rows).unwrap().lines() {
        let [path, status, body] = row.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let response = within(front.fetch(get(path))).await;
        assert_eq!(response.status.to_string(), status, "{path}");
        let body = body.strip_prefix('=').unwrap_or("Internal Server Error\n");
        assert_eq!(response.body, body, "{path}");
        failures += usize::from(response.status == 500);
    }
    assert!(failures > 10);
    let head = within(front.fetch(request("HEAD", "/tuple"))).await;
    assert_eq!((head.status, head.body.len()), (200, 0));

    worker.child.kill().await.unwrap();
    let log = worker.log().await;
    assert_eq!(log.matches("the app raised an exception").count(), failures, "{log}");
    assert!(log.contains("an exception method=GET path=/raise request=test-1\nTraceback"), "{log}");
    assert!(log.contains("ValueError: boom"), "{log}");
}

#[tokio::test]
async fn iterables_are_closed_and_the_response_does_not_wait_for_it() {
    let app = r#"
import os, time

class Body:
    def __init__(self, environ, pieces):
        self.gate = environ["QUERY_STRING"]
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        while self.gate and not os.path.exists(self.gate):
            time.sleep(0.01)

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return Body(environ, [b"abc"])
"#;
    let worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    let gate = worker.path("gate");
    let id = front.send(get(&format!("/?{}", gate.display()))).await;
    let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
    assert_eq!((&*response.body, response.streamed, response.done), (&b"abc"[..], false, false));
    std::fs::write(gate, "").unwrap();
    assert!(matches!(within(front.next()).await, Some(Message::Done(done)) if done.id == id));
}

#[tokio::test]
async fn several_threads_work_at_once() {
    let app = r#"
import threading
everyone = threading.Barrier(3)

def application(environ, start_response):
    everyone.wait(50)
    start_response("200 OK", [])
    return [threading.current_thread().name.encode() + b" " + str(environ["wsgi.multithread"]).encode()]
"#;
    let mut worker = App { threads: 3, ..App::new(app) }.ready().await;
    let mut front = worker.front(1).await;
    assert_eq!(front.capacity, 3);
    let mut names = Vec::new();
    for _ in 0..3 {
        front.send(request("PUT", "/")).await;
    }
    for _ in 0..3 {
        assert!(matches!(within(front.next()).await, Some(Message::Begun(_))));
    }
    for _ in 0..3 {
        let Some(Message::Response(response)) = within(front.next()).await else { panic!("no response") };
        names.push(String::from_utf8(response.body.into()).unwrap());
    }
    names.sort();
    assert_eq!(names, ["MainThread True", "imperium-2 True", "imperium-3 True"]);

    worker.emperor.drain(60_000).await;
    assert!(matches!(within(front.next()).await, Some(Message::Draining(_))));
    front.half_close();
    assert_eq!(worker.exit_code().await, Some(0));
}

#[tokio::test]
async fn only_in_development_a_response_contains_the_traceback() {
    let app = r#"
def application(environ, start_response):
    if environ["PATH_INFO"] == "/started":
        start_response("200 OK", [])
    if environ["PATH_INFO"] == "/long":
        raise ValueError("\u00e9" * 70_000 + " end")
    raise ValueError("the secret")
"#;
    for development in [false, true] {
        let worker = App { development, ..App::new(app) }.ready().await;
        let mut front = worker.front(1).await;
        for path in ["/", "/started", "/long"] {
            let response = within(front.fetch(get(path))).await;
            assert_eq!((response.status, &*response.body), (500, &b"Internal Server Error\n"[..]));
            let traceback = response.failure.map(|it| it.traceback);
            assert_eq!(traceback.is_some(), development, "{path}");
            let says =
                |it: &String| it.ends_with(if path == "/long" { " end" } else { "ValueError: the secret" });
            assert!(traceback.as_ref().is_none_or(|it| it.len() <= 64 << 10 && says(it)), "{traceback:?}");
        }
    }
}
