//! What clients are told before their request body is read.

use api::routes::app::State;

use super::resets::pool;
use super::*;

/// A server with one app.
struct Served {
    shared: Shared,
    server: Arc<Server>,
    listener: TcpListener,
    _folder: TempDir,
}

impl Served {
    async fn new(app: routes::App) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec!["blog.example".to_owned()];
        let app = routes::App { name: "blog".to_owned(), domains, path: "/".to_owned(), ..app };
        let shared = shared(folder.path(), &[app]);
        let server = server(&shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { shared, server, listener, _folder: folder }
    }

    /// Connects a client and sends the text.
    async fn client(&self, sent: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = self.listener.accept().await.unwrap();
        let share = self.shared.clients.of(peer.ip());
        let serving = serve(Arc::clone(&self.server), near, peer, Transport::Plain, share, Arc::new(()));
        drop(self.server.tasks().spawn(serving));
        client.write_all(sent.as_bytes()).await.unwrap();
        client
    }

    /// Sends only a head. Returns the status line of the response.
    async fn answer(&self, head: &str) -> String {
        let mut client = self.client(head).await;
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            let mut part = [0; 4096];
            let read = client.read(&mut part).await.unwrap();
            assert!(read > 0, "closed without a response: {answer:?}");
            answer += std::str::from_utf8(&part[..read]).unwrap();
        }
        answer.lines().next().unwrap().to_owned()
    }
}

async fn answer(app: routes::App, head: &str) -> String {
    Served::new(app).await.answer(head).await
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: blog.example\r\nContent-Length: 500000\r\n\r\n";
const ASKING: &str =
    "POST / HTTP/1.1\r\nHost: blog.example\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn requests_are_refused_before_their_body_arrives() {
    let failed = routes::App { state: State::Failed.into(), body_limit: 1 << 30, ..routes::App::default() };
    let full = routes::App { queue_size: 0, body_limit: 1 << 30, ..routes::App::default() };
    let small = routes::App { queue_size: 10, body_limit: 1000, ..routes::App::default() };
    for head in [UPLOAD, ASKING] {
        let unavailable = "HTTP/1.1 503 Service Unavailable";
        assert_eq!(answer(failed.clone(), head).await, unavailable);
        assert_eq!(answer(full.clone(), head).await, unavailable);
        assert_eq!(answer(small.clone(), head).await, "HTTP/1.1 413 Payload Too Large");
    }
}

#[tokio::test]
async fn an_admitted_client_is_told_to_continue() {
    let starting = routes::App { queue_size: 10, body_limit: 1 << 30, ..routes::App::default() };
    assert_eq!(answer(starting, ASKING).await, "HTTP/1.1 100 Continue");
}

/// The normalized path exceeds the maximum length: it is neither shortened nor used as it came.
#[tokio::test]
async fn a_path_that_becomes_too_long_reaches_no_app() {
    let app = routes::App { state: State::Failed.into(), ..routes::App::default() };
    let served = Served::new(app).await;
    let percents = "%".repeat(22_000);
    for origin in ["", "http://blog.example"] {
        let head = format!("DELETE {origin}/x/./{percents} HTTP/1.1\r\nHost: blog.example\r\n\r\n");
        assert_eq!(served.answer(&head).await, "HTTP/1.1 414 URI Too Long");
    }
    let counted = served.shared.metrics.render([]);
    assert!(counted.contains(r#"refused_total{reason="target_too_long"} 2"#), "{counted}");
}

/// Without separate limits, small bodies would get a 503 although the app has room.
#[tokio::test]
async fn slow_uploads_do_not_cause_small_bodies_to_be_refused() {
    let app = routes::App {
        queue_size: 4,
        queue_milliseconds: 60_000,
        body_limit: 1 << 30,
        ..routes::App::default()
    };
    let served = Served::new(app).await;
    let pool = pool(&served.server);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(served.client(UPLOAD).await);
    }
    while pool.uploads() < 8 {
        tokio::task::yield_now().await;
    }
    for (before, framed) in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
            .into_iter()
            .enumerate()
    {
        clients.push(served.client(&format!("POST / HTTP/1.1\r\nHost: blog.example\r\n{framed}")).await);
        while pool.requests_seen() == before as u64 {
            assert_eq!(pool.uploads(), 8, "its body counts as not received yet: {framed:?}");
            tokio::task::yield_now().await;
        }
    }
}
