//! WebSockets from the socket of a client to the link of a worker, over HTTP/1.1 and HTTP/2.

mod worker;

use std::time::Duration;

use api::runner::SocketMessage;
use api::runner::serve_request::Message as Sent;
use api::runner::serve_response::Message;
use h2::ext::Protocol;
use http::HeaderMap;
use http::header::{CONNECTION, SEC_WEBSOCKET_VERSION, UPGRADE};

use tokio::io::AsyncRead;

use self::worker::Worker;
use super::*;
use crate::backend::Links;

/// A server with one app and one worker.
struct Site {
    shared: Arc<Shared>,
    server: Arc<Server>,
    listener: TcpListener,
    worker: Worker,
    _folder: TempDir,
    _links: TaskTracker,
}

impl Site {
    async fn new(sockets: u32) -> Self {
        Self::with(sockets, |_| (), routes::App::default()).await
    }

    async fn with(sockets: u32, set: impl FnOnce(&mut FrontdConfig), app: routes::App) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("worker");
        let worker = Worker::listen(&socket, sockets);
        let workers = vec![routes::Worker {
            name: "blog-1".to_owned(),
            instance: 1,
            socket: socket.to_str().unwrap().to_owned(),
            capacity: 1,
        }];
        let (name, path, domains) = ("blog".to_owned(), "/".to_owned(), vec!["*".to_owned()]);
        let (queue_size, queue_milliseconds) = (10, 60_000);
        let app = routes::App { name, path, domains, workers, queue_size, queue_milliseconds, ..app };
        let mut shared = shared(folder.path(), &[app]);
        set(&mut shared.config);
        let authority = folder.path().join("development");
        let tls = config::frontd::Tls { certificates: None, development: Some(authority) };
        shared.certificates = Arc::new(Certificates::new(&tls).unwrap());
        let server = server(&shared);
        let links = TaskTracker::new();
        Links::new(0, links.clone()).follow(shared.tables.clone()).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { shared: Arc::new(shared), server, listener, worker, _folder: folder, _links: links }
    }

    /// A connection to the server.
    async fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = self.listener.accept().await.unwrap();
        let share = self.shared.clients.of(peer.ip());
        let server = Arc::clone(&self.server);
        self.server.tasks().spawn(serve(server, near, peer, Transport::Plain, share, Arc::new(())));
        client
    }

    /// Sends a handshake. The worker gets its request.
    async fn ask(&mut self, more: &str) -> (Client1, api::runner::Request) {
        let mut client = Client1(self.connect().await);
        client.send(handshake(more).as_bytes()).await;
        let request = self.worker.request().await;
        (client, request)
    }

    /// An open WebSocket, and its id.
    async fn open(&mut self, more: &str) -> (Client1, u64) {
        let (mut client, request) = self.ask(more).await;
        self.worker.accept(request.id, &[]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        (client, request.id)
    }

    fn stats(&self) -> (usize, usize) {
        let table = self.shared.tables.borrow();
        let stats = table.pools().next().unwrap().1;
        (stats.in_flight, stats.sockets)
    }

    async fn wait_for_stats(&self, expected: (usize, usize)) {
        while self.stats() != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The values of a header that the worker gets.
fn values<'r>(request: &'r api::runner::Request, name: &str) -> Vec<&'r [u8]> {
    request.headers.iter().filter(|it| it.name == name).map(|it| &*it.value).collect()
}

fn handshake(more: &str) -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: blog.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A client of HTTP/1.1.
struct Client1(TcpStream);

impl Client1 {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads the head of a response.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        rest
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        read_frame(&mut self.0).await
    }
}

/// A frame of the server: its first byte, and its payload.
async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let first = io.read_u8().await.unwrap();
    let len = match io.read_u8().await.unwrap() {
        126 => usize::from(io.read_u16().await.unwrap()),
        127 => usize::try_from(io.read_u64().await.unwrap()).unwrap(),
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    io.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(u8::try_from(len).unwrap() | 0x80),
        len @ 126..65536 => {
            out.push(0xfe);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(0xff);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

#[tokio::test]
async fn messages_go_both_ways_and_a_client_that_closes_is_answered() {
    let mut site = Site::new(10).await;
    let (mut client, request) = site.ask("Sec-WebSocket-Protocol: chat, other\r\n").await;
    assert!(request.websocket && request.body.is_empty());
    assert_eq!(
        (&*request.method, &*request.target, request.version),
        (&b"GET"[..], &b"/chat?room=1"[..], 11)
    );
    assert!(
        request.headers.iter().any(|it| it.name == "sec-websocket-protocol" && it.value == "chat, other")
    );
    assert_eq!(values(&request, "upgrade"), [b"websocket"]);
    assert_eq!(values(&request, "connection"), [b"Upgrade"]);
    let id = request.id;
    site.worker.accept(id, &[("sec-websocket-protocol", "chat"), ("x-mine", "1")]).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-Websocket-Protocol: chat",
        "X-Mine: 1",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    site.wait_for_stats((0, 1)).await;
    client.send(&frame(0x81, "hé".as_bytes())).await;
    assert_eq!(site.worker.message().await, "hé");
    site.worker.say(id, "hello").await;
    assert_eq!(client.frame().await, (0x81, b"hello".to_vec()));
    client.send(&[frame(0x89, b"?"), frame(0x88, b"\x03\xe8bye")].concat()).await;
    assert_eq!(client.frame().await, (0x8a, b"?".to_vec()));
    assert_eq!(client.frame().await, (0x88, b"\x03\xe8bye".to_vec()));
    assert_eq!(client.rest().await, b"");
    assert_eq!(site.worker.closed().await, (1000, "bye".to_owned()));
    assert_eq!(site.stats(), (0, 1), "the worker isn't done");
    site.worker.done(id).await;
    site.wait_for_stats((0, 0)).await;
    let metrics = site.shared.metrics.render([]);
    for direction in ["in", "out"] {
        let line = format!("imperium_websocket_messages_total{{app=\"blog\",direction=\"{direction}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn an_app_can_refuse_and_the_connection_goes_on() {
    let mut site = Site::new(10).await;
    let (mut client, request) = site.ask("").await;
    site.worker.refuse(request.id, 403, "not you").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    let mut body = [0; 7];
    client.0.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"not you");
    site.wait_for_stats((0, 0)).await;
    client.send(handshake("").as_bytes()).await;
    let request = site.worker.request().await;
    site.worker.accept(request.id, &[]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn incorrect_handshakes_are_refused_before_a_worker_gets_them() {
    let mut site = Site::new(10).await;
    for (from, to, expected) in [
        ("Version: 13", "Version: 8", "HTTP/1.1 426 Upgrade Required"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", "HTTP/1.1 400 Bad Request"),
        ("GET ", "POST ", "HTTP/1.1 400 Bad Request"),
    ] {
        let mut client = Client1(site.connect().await);
        client.send(handshake("").replace(from, to).as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with(expected), "{head}");
        assert_eq!(head.contains("Sec-Websocket-Version: 13\r\n"), expected.contains("426"), "{head}");
    }
    assert!(!site.worker.has_more());
}

#[tokio::test]
async fn an_app_without_websockets_refuses_them_with_a_page_that_says_what_to_do() {
    let mut site = Site::new(0).await;
    let mut client = Client1(site.connect().await);
    client.send(handshake("Accept: text/plain\r\nConnection: close\r\n").as_bytes()).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
    let page = String::from_utf8(client.rest().await).unwrap();
    assert!(page.contains("Only ASGI applications accept WebSockets"), "{page}");
    assert!(page.contains("Quart in place of Flask"), "{page}");
    assert!(!site.worker.has_more());
}

#[tokio::test]
async fn a_worker_that_is_full_of_websockets_gets_no_handshake() {
    let mut site = Site::new(1).await;
    let (_client, id) = site.open("").await;
    let mut second = Client1(site.connect().await);
    second.send(handshake("").as_bytes()).await;
    assert!(second.head().await.starts_with("HTTP/1.1 503 "));
    let mut other = Client1(site.connect().await);
    other.send(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await;
    let request = site.worker.request().await;
    assert!(!request.websocket);
    site.worker.refuse(request.id, 200, "ok").await;
    assert!(other.head().await.starts_with("HTTP/1.1 200 "));
    site.worker.close(id, 1000, "").await;
    site.worker.done(id).await;
    site.wait_for_stats((0, 0)).await;
    let _third = site.open("").await;
}

#[tokio::test]
async fn an_app_closes_its_websocket_with_a_code_and_a_reason() {
    let mut site = Site::new(10).await;
    let (mut client, id) = site.open("").await;
    site.worker.say(id, "last").await;
    site.worker.close(id, 4000, "enough").await;
    site.worker.done(id).await;
    assert_eq!(client.frame().await, (0x81, b"last".to_vec()));
    assert_eq!(client.frame().await, (0x88, b"\x0f\xa0enough".to_vec()));
    client.send(&[frame(0x81, b"too late"), frame(0x88, b"\x0f\xa0")].concat()).await;
    assert_eq!(client.rest().await, b"");
    site.wait_for_stats((0, 0)).await;
    assert!(!site.worker.has_more());
}

#[tokio::test]
async fn a_client_is_told_that_its_worker_is_gone_or_has_ended_without_a_word() {
    let mut site = Site::new(10).await;
    let (mut client, id) = site.open("").await;
    site.worker.done(id).await;
    assert_eq!(client.frame().await, (0x88, b"\x03\xf3".to_vec()), "1011");
    let (mut client, _) = site.open("").await;
    site.worker.vanish();
    assert_eq!(client.frame().await, (0x88, b"\x03\xf4".to_vec()), "1012");
}

#[tokio::test]
async fn a_client_that_vanishes_or_violates_the_protocol_ends_only_its_own_websocket() {
    let app = routes::App { message_limit: 1000, ..routes::App::default() };
    let mut site = Site::with(10, |_| (), app).await;
    let (mut neighbour, neighbours_id) = site.open("").await;
    let (client, id) = site.open("").await;
    drop(client);
    assert_eq!(site.worker.closed().await.0, 1006);
    site.worker.done(id).await;
    for (bytes, code) in [
        (b"\x81\x01a".to_vec(), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x82, &[0; 1001]), 1009),
        (frame(0xc2, b"x"), 1002),
    ] {
        let (mut client, id) = site.open("").await;
        client.send(&bytes).await;
        let (first, payload) = client.frame().await;
        assert_eq!((first, &payload[..2]), (0x88, &u16::to_be_bytes(code)[..]), "{bytes:x?}");
        assert_eq!(client.rest().await, b"");
        assert_eq!(site.worker.closed().await.0, u32::from(code));
        site.worker.done(id).await;
    }
    site.wait_for_stats((0, 1)).await;
    neighbour.send(&frame(0x81, b"still here")).await;
    assert_eq!(site.worker.message().await, "still here");
    site.worker.say(neighbours_id, "so am I").await;
    assert_eq!(neighbour.frame().await, (0x81, b"so am I".to_vec()));
}

#[tokio::test]
async fn a_compression_bomb_is_refused_by_its_content() {
    let app = routes::App { message_limit: 1_000_000, ..routes::App::default() };
    let mut site = Site::with(10, |_| (), app).await;
    let (mut client, request) = site.ask("Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    site.worker.accept(request.id, &[]).await;
    let head = client.head().await;
    assert!(
        head.contains("Sec-Websocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n"),
        "{head}"
    );
    // A block of one byte, and 258 times the byte before, as often as fits.
    let mut bomb = vec![0x62, 0x60];
    bomb.extend(std::iter::repeat_n([0x18, 0x05, 0xa3, 0x60, 0x14], 2).flatten());
    bomb.extend([0; 20_000]);
    client.send(&frame(0xc2, &bomb)).await;
    let (first, payload) = client.frame().await;
    assert_eq!(first, 0x88);
    let code = u16::from_be_bytes([payload[0], payload[1]]);
    assert!(matches!(code, 1009 | 1002), "{code}");
}

#[tokio::test]
async fn a_worker_without_credit_gets_nothing_and_one_that_sends_gets_credit_back_as_its_client_reads() {
    let mut site = Site::new(10).await;
    let (mut client, id) = site.open("").await;
    client.send(&frame(0x82, &vec![b'x'; 600_000])).await;
    let part = |sent: Sent| match sent {
        Sent::SocketMessage(message) => (message.payload.len(), message.more),
        other => panic!("{other:?} is no message"),
    };
    for _ in 0..3 {
        assert_eq!(part(site.worker.next().await), (65_536, true));
    }
    client.send(&frame(0x81, b"after it")).await;
    tokio::task::yield_now().await;
    assert!(!site.worker.has_more(), "more than its credit");
    let mut rest = 600_000 - 3 * 65_536;
    while rest > 0 {
        site.worker.credit(id, 65_600).await;
        let (len, more) = part(site.worker.next().await);
        rest -= len;
        assert_eq!(more, rest > 0);
    }
    site.worker.credit(id, 65_600).await;
    assert_eq!(site.worker.message().await, "after it");

    let text = "y".repeat(60_000);
    for _ in 0..2 {
        site.worker.say(id, &text).await;
    }
    assert_eq!(client.frame().await.1.len(), 60_000);
    let Sent::SocketCredit(credit) = site.worker.next().await else { panic!("no credit") };
    assert_eq!(credit.bytes, 2 * 60_064);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_after_the_send_timeout() {
    let set = |config: &mut FrontdConfig| config.limits.send_timeout = Duration::from_millis(200);
    let mut site = Site::with(10, set, routes::App::default()).await;
    let (mut client, id) = site.open("").await;
    let text = "y".repeat(60_000);
    let mut credit = 256 * 1024;
    loop {
        if credit > 60_064 {
            credit -= 60_064;
            site.worker.say(id, &text).await;
        } else {
            match site.worker.next().await {
                Sent::SocketCredit(more) => credit += more.bytes,
                Sent::SocketClose(close) => {
                    assert_eq!(close.code, 1006);
                    break;
                }
                other => panic!("{other:?} is unexpected"),
            }
        }
    }
    let mut byte = [0; 65536];
    while client.0.read(&mut byte).await.is_ok_and(|it| it > 0) {}
}

#[tokio::test]
async fn when_a_drain_begins_websockets_are_closed_as_going_away_and_no_message_is_lost() {
    let mut site = Site::new(10).await;
    let (mut client, id) = site.open("").await;
    site.worker.say(id, "before the drain").await;
    assert_eq!(client.frame().await, (0x81, b"before the drain".to_vec()));
    site.shared.drain.cancel();
    assert_eq!(client.frame().await, (0x88, b"\x03\xe9".to_vec()));
    client.send(&frame(0x81, b"sent before it knew")).await;
    assert_eq!(site.worker.message().await, "sent before it knew");
    client.send(&frame(0x88, b"\x03\xe9")).await;
    assert_eq!(site.worker.closed().await.0, 1001);
    site.worker.done(id).await;
    assert_eq!(client.rest().await, b"");
    drop(client);
    site.server.tasks().close();
    site.server.tasks().wait().await;
}

#[tokio::test]
async fn a_drain_waits_for_the_end_of_a_message_and_no_longer_than_until_its_own_end() {
    let mut site = Site::new(10).await;
    let (mut client, id) = site.open("").await;
    let (mut other, others_id) = site.open("").await;
    let part = |id, text: &'static str, more| {
        Message::SocketMessage(SocketMessage { id, payload: text.into(), text: true, more })
    };
    for (id, client) in [(id, &mut client), (others_id, &mut other)] {
        site.worker.send(part(id, "be", true)).await;
        assert_eq!(client.frame().await, (0x01, b"be".to_vec()));
    }
    site.shared.drain.cancel();
    client.send(&frame(0x81, b"during the drain")).await;
    assert_eq!(site.worker.message().await, "during the drain");
    site.worker.send(part(id, "gin", false)).await;
    assert_eq!(client.frame().await, (0x80, b"gin".to_vec()));
    assert_eq!(client.frame().await, (0x88, b"\x03\xe9".to_vec()));
    site.server.end_of_drain().cancel();
    assert_eq!(other.frame().await, (0x88, b"\x03\xe9".to_vec()));
    assert_eq!(site.worker.closed().await.0, 1001);
}

#[tokio::test]
async fn what_is_sent_before_the_response_is_never_taken_for_a_frame() {
    let mut site = Site::new(10).await;
    let mut client = Client1(site.connect().await);
    client.send(&[handshake("").as_bytes(), &frame(0x81, b"early")].concat()).await;
    let request = site.worker.request().await;
    site.worker.accept(request.id, &[]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(site.worker.closed().await.0, 1006);
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// The test's own end of each connection is in this process, too.
#[tokio::test]
async fn an_idle_websocket_takes_at_most_10_kib() {
    const SOCKETS: usize = 400;
    let mut site = Site::new(u32::MAX).await;
    let mut clients = Vec::new();
    // The first ones fill caches and pools.
    let mut before = 0;
    for at in 0..SOCKETS + 100 {
        if at == 100 {
            before = resident();
        }
        let (mut client, id) = site.open("Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
        client.send(&frame(0x81, b"hello")).await;
        assert_eq!(site.worker.message().await, "hello");
        site.worker.say(id, "hello").await;
        assert_eq!(client.frame().await.1, b"hello");
        clients.push(client);
    }
    let each = resident().saturating_sub(before) / SOCKETS;
    assert!(each <= 10 * 1024, "{each} bytes");
}

/// Extended CONNECT (RFC 8441).
#[tokio::test]
async fn websockets_work_over_http_2() {
    let mut site = Site::new(10).await;
    let far = TcpStream::connect(site.listener.local_addr().unwrap()).await.unwrap();
    let (near, peer) = site.listener.accept().await.unwrap();
    let refusal = Refusal::none(Arc::clone(&site.shared.metrics));
    let client = Client::new(peer, peer.ip(), Transport::Tls, site.shared.clients.of(peer.ip()), refusal);
    let serving = Arc::clone(&site.server);
    site.server.tasks().spawn(async move { drop(http2::serve(&serving, client, near).await) });
    let (requests, connection) = h2::client::handshake(far).await.unwrap();
    let connection = TaskTracker::new().spawn(async { drop(connection.await) });
    let mut requests = requests.ready().await.unwrap();
    while !requests.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let connect = |version: &str| {
        let mut request = Request::builder().method(Method::CONNECT).uri("https://blog.example/chat?room=1");
        request =
            request.header(SEC_WEBSOCKET_VERSION, version).extension(Protocol::from_static("websocket"));
        request.body(()).unwrap()
    };
    let (response, _stream) = requests.send_request(connect("12"), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");

    // A response of success would be an acceptance.
    for (status, expected) in [(403, 403), (200, 502)] {
        let (response, _stream) = requests.send_request(connect("13"), false).unwrap();
        let request = site.worker.request().await;
        site.worker.refuse(request.id, status, "no").await;
        assert_eq!(response.await.unwrap().status(), expected);
    }

    let (response, mut stream) = requests.send_request(connect("13"), false).unwrap();
    let request = site.worker.request().await;
    assert!(request.websocket);
    assert_eq!(
        (&*request.method, &*request.target, request.version),
        (&b"GET"[..], &b"/chat?room=1"[..], 20)
    );
    assert_eq!(values(&request, "upgrade"), [b"websocket"], "apps that look for it needn't know HTTP/2");
    let id = request.id;
    site.worker.accept(id, &[("sec-websocket-protocol", "chat")]).await;
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let has = |headers: &HeaderMap, name| headers.contains_key(name);
    assert!(!has(response.headers(), UPGRADE) && !has(response.headers(), CONNECTION));
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let mut body = response.into_body();
    stream.send_data(frame(0x81, b"over HTTP/2").into(), false).unwrap();
    assert_eq!(site.worker.message().await, "over HTTP/2");
    site.worker.say(id, "as well").await;
    let expected = [&b"\x81\x07as well"[..], b"\x88\x02\x03\xe8"].concat();
    site.worker.close(id, 1000, "").await;
    site.worker.done(id).await;
    stream.send_data(frame(0x88, b"\x03\xe8").into(), true).unwrap();
    let mut all = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        all.extend_from_slice(&part);
    }
    assert_eq!(all, expected);
    site.wait_for_stats((0, 0)).await;

    // One whose client resets the stream.
    let (response, mut stream) = requests.send_request(connect("13"), false).unwrap();
    let request = site.worker.request().await;
    site.worker.accept(request.id, &[]).await;
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    stream.send_reset(Reason::CANCEL);
    assert_eq!(site.worker.closed().await.0, 1006);
    connection.abort();
}
