//! Connections on which the test controls each frame that the client sends.

mod first_table;
mod lag;
mod malformed;
mod pages;
mod resets;
mod service;
mod sticky;
mod streamed_bodies;
mod trailers;
mod uploads;
mod websockets;
mod worker;

use std::net::Ipv4Addr;

use api::routes;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Method, Request, StatusCode};
use tempfile::TempDir;

use hyper::rt::Executor as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::http2::{Streams, idle};
use super::testing::{server, shared};
use super::*;

const IDLE_TIME: Duration = Duration::from_secs(75);

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_once_it_has_had_no_stream_for_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let shared = shared(folder.path(), &[]);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let refusal = Refusal::none(Arc::clone(&shared.metrics));
    let client =
        Arc::new(Client::new(peer, peer.ip(), Transport::Tls, shared.clients.of(peer.ip()), refusal));
    let (streams, mut open) = Streams::new(&server(&shared), &client);
    let (end, ended) = oneshot::channel::<()>();
    streams.execute(async { drop(ended.await) });
    streams.execute(async {});
    assert!(tokio::time::timeout(IDLE_TIME * 10, idle(&mut open, IDLE_TIME)).await.is_err());
    drop(end);
    assert!(tokio::time::timeout(IDLE_TIME / 2, idle(&mut open, IDLE_TIME)).await.is_err());
    streams.execute(async {});
    assert!(tokio::time::timeout(IDLE_TIME / 2, idle(&mut open, IDLE_TIME)).await.is_err());
    assert!(tokio::time::timeout(IDLE_TIME * 2, idle(&mut open, IDLE_TIME)).await.is_ok());
}

/// A server, and a raw client connection to it.
async fn connected(shared: &Shared, transport: Transport) -> (Arc<Server>, TcpStream) {
    let server = server(shared);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let share = shared.clients.of(peer.ip());
    server.tasks().spawn(serve(Arc::clone(&server), stream, peer, transport, share, Arc::new(())));
    (server, client)
}

/// An HTTP/2 connection to a server with one app, `blog.example`.
struct Fixture {
    _folder: TempDir,
    shared: Arc<Shared>,
    requests: SendRequest<Bytes>,
}

impl Fixture {
    async fn new(app: routes::App) -> Self {
        Self::with(app, |_| (), h2::client::Builder::new()).await
    }

    async fn with(
        app: routes::App,
        set: impl FnOnce(&mut FrontdConfig),
        settings: h2::client::Builder,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec!["blog.example".to_owned()];
        let app = routes::App { name: "blog".to_owned(), domains, path: "/".to_owned(), ..app };
        let mut shared = shared(folder.path(), &[app]);
        set(&mut shared.config);
        shared.clients = Clients::new(&shared.config.limits, 1000);
        let (server, shared) = (server(&shared), Arc::new(shared));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        let serving = Arc::clone(&server);
        let refusal = Refusal::none(Arc::clone(&shared.metrics));
        let client = Client::new(peer, peer.ip(), Transport::Tls, shared.clients.of(peer.ip()), refusal);
        server.tasks().spawn(async move { drop(http2::serve(&serving, client, near).await) });
        let (requests, connection) = settings.handshake(far).await.unwrap();
        server.tasks().spawn(async { drop(connection.await) });
        Self { _folder: folder, shared, requests: requests.ready().await.unwrap() }
    }

    /// Sends a request. Unless it is a GET, its body follows on the returned stream.
    fn send(&mut self, method: Method, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let ends = method == Method::GET;
        let request = Request::builder().method(method).uri(format!("https://blog.example{path}"));
        self.requests.send_request(request.body(()).unwrap(), ends).unwrap()
    }
}

/// Sends this many bytes. Returns whether the server took them all.
async fn upload(stream: &mut SendStream<Bytes>, mut bytes: usize) -> bool {
    while bytes > 0 {
        stream.reserve_capacity(bytes.min(16 * 1024));
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let part = room.min(bytes);
        if stream.send_data(Bytes::from(vec![b'x'; part]), false).is_err() {
            return false;
        }
        bytes -= part;
    }
    true
}

#[tokio::test]
async fn a_refused_upload_is_read_for_a_while_so_that_the_client_sees_the_response() {
    let mut fixture =
        Fixture::new(routes::App { body_limit: 1000, queue_size: 1, ..routes::App::default() }).await;
    let (response, mut stream) = fixture.send(Method::POST, "/");
    assert!(upload(&mut stream, 2000).await);
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut page = response.into_body();
    while let Some(part) = page.data().await {
        page.flow_control().release_capacity(part.unwrap().len()).unwrap();
    }
    // Some clients only look at the response after they have sent everything.
    assert!(upload(&mut stream, 4 << 20).await, "the stream was reset");
    stream.send_data(Bytes::new(), true).unwrap();

    let (response, mut stream) = fixture.send(Method::POST, "/");
    assert!(upload(&mut stream, 2000).await);
    assert_eq!(response.await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!upload(&mut stream, 256 << 20).await, "the upload is read without a limit");
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}

/// An app with a static file `N.bin` of N KiB for each entry.
fn with_files(folder: &std::path::Path, kib: &[usize]) -> routes::App {
    for kib in kib {
        std::fs::write(folder.join(format!("{kib}.bin")), vec![b'f'; kib * 1024]).unwrap();
    }
    let folder = routes::StaticFolder {
        prefix: "/f/".to_owned(),
        folder: folder.display().to_string(),
        ..routes::StaticFolder::default()
    };
    routes::App { static_folders: vec![folder], ..routes::App::default() }
}

fn window(size: u32) -> h2::client::Builder {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(size);
    settings
}

/// Reads a response: its length, or why it ended early.
async fn read(response: ResponseFuture) -> Result<usize, h2::Error> {
    let mut body = response.await?.into_body();
    let mut length = 0;
    while let Some(part) = body.data().await {
        let part = part?.len();
        length += part;
        body.flow_control().release_capacity(part)?;
    }
    Ok(length)
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_is_reset_and_others_are_not() {
    let files = tempfile::tempdir().unwrap();
    let app = with_files(files.path(), &[1, 60, 300]);
    let short = |config: &mut FrontdConfig| {
        config.limits.send_timeout = Duration::from_millis(200);
    };
    for size in [0, 1, 20_000] {
        let mut fixture = Fixture::with(app.clone(), short, window(size)).await;
        for file in ["/f/60.bin", "/f/300.bin"] {
            let (response, _) = fixture.send(Method::GET, file);
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let mut body = response.into_body();
            let error = loop {
                match body.data().await.expect("the response ended without an error") {
                    // The window is never released, so it stays closed.
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.reason(), Some(Reason::CANCEL), "{file} with a window of {size}");
        }
        assert_eq!(fixture.shared.metrics.stalled.get(), 2);
        if size > 1 {
            let (response, _) = fixture.send(Method::GET, "/f/300.bin");
            assert_eq!(read(response).await.unwrap(), 300 * 1024);
        }
    }
}

#[tokio::test]
async fn stalled_streams_share_files_and_hold_a_bounded_part_of_them() {
    let files = tempfile::tempdir().unwrap();
    let app = with_files(files.path(), &[10_000]);
    let mut fixture = Fixture::with(app, |_| (), window(1)).await;
    let before = open_files(files.path());
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let (response, _) = fixture.send(Method::GET, "/f/10000.bin");
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap().len(), 1);
        stalled.push(body);
    }
    assert_eq!(open_files(files.path()) - before, 1);
    let clients = fixture.shared.clients.of([127, 0, 0, 1].into());
    assert_eq!(clients.files.used(), 1);
    assert!((1..8 << 20).contains(&clients.memory.used()), "{}", clients.memory.used());
    drop(stalled);
    while clients.memory.used() + clients.files.used() > 0 {
        tokio::task::yield_now().await;
    }
}

fn open_files(folder: &std::path::Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|it| std::fs::read_link(it.as_ref().unwrap().path()).is_ok_and(|it| it.starts_with(folder)))
        .count()
}

#[tokio::test]
async fn a_request_waits_while_too_much_response_data_waits_for_the_client() {
    let files = tempfile::tempdir().unwrap();
    let app = with_files(files.path(), &[250, 1]);
    let little = |config: &mut FrontdConfig| config.limits.send_memory = 2;
    let mut fixture = Fixture::with(app, little, window(1)).await;
    let mut held = Vec::new();
    // A connection that holds less than 1 MiB never waits, even though the memory limit is exceeded.
    for _ in 0..5 {
        let (response, _) = fixture.send(Method::GET, "/f/250.bin");
        held.push(response.await.unwrap());
    }
    let (mut response, _) = fixture.send(Method::GET, "/f/1.bin");
    let waits = tokio::time::timeout(Duration::from_millis(100), &mut response).await;
    assert!(waits.is_err(), "it did not wait");
    drop(held);
    assert_eq!(read(response).await.unwrap(), 1024);
}

#[tokio::test]
async fn a_client_that_holds_little_is_served_however_much_others_hold() {
    let files = tempfile::tempdir().unwrap();
    let app = with_files(files.path(), &[300, 1]);
    let mut fixture = Fixture::new(app).await;
    // Memory held by the client's own address, and by another one.
    for address in [[127, 0, 0, 1], [192, 0, 2, 1]] {
        let others = fixture.shared.clients.of(address.into());
        let _held = others.memory.hold(1 << 40);
        for kib in [1, 300] {
            let (response, _) = fixture.send(Method::GET, &format!("/f/{kib}.bin"));
            assert_eq!(read(response).await.unwrap(), kib * 1024);
        }
    }
}

#[tokio::test]
async fn an_upload_that_takes_too_long_gets_a_408() {
    let app = routes::App { queue_size: 10, body_limit: 1 << 30, ..routes::App::default() };
    let short = |config: &mut FrontdConfig| config.limits.body_timeout = Duration::from_millis(200);
    let mut fixture = Fixture::with(app, short, h2::client::Builder::new()).await;
    let (response, mut stream) = fixture.send(Method::POST, "/");
    assert!(upload(&mut stream, 2000).await);
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}
