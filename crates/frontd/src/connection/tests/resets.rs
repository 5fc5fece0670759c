//! Clients that reset their requests.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::backend::Link;
use crate::backend::pool::Pool;

/// An app without a ready worker: its requests wait.
pub(super) fn starting() -> routes::App {
    routes::App { queue_size: 1000, queue_milliseconds: 60_000, ..routes::App::default() }
}

/// A raw HTTP/2 connection to a server with that app.
pub(super) async fn serving(app: routes::App) -> (TempDir, Arc<Server>, TcpStream) {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec!["blog.example".to_owned()];
    let app = routes::App { name: "blog".to_owned(), domains, path: "/".to_owned(), ..app };
    let shared = shared(folder.path(), &[app]);
    let server = server(&shared);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, peer) = listener.accept().await.unwrap();
    let serving = Arc::clone(&server);
    let refusal = Refusal::none(Arc::clone(&shared.metrics));
    let client = Client::new(peer, peer.ip(), Transport::Tls, shared.clients.of(peer.ip()), refusal);
    server.tasks().spawn(async move { drop(http2::serve(&serving, client, near).await) });
    (folder, server, far)
}

pub(super) fn pool(server: &Server) -> Arc<Pool<Arc<Link>>> {
    let site = server.service.sites.route("blog.example", "/").unwrap();
    Arc::clone(&site.backends().next().unwrap().pool)
}

/// Waits until this many requests have asked for a worker.
async fn wait_for_requests(pool: &Arc<Pool<Arc<Link>>>, requests: u64) {
    while pool.requests_seen() < requests {
        tokio::task::yield_now().await;
    }
}

pub(super) const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A HEADERS frame for `GET /`.
fn get(stream: u32) -> Vec<u8> {
    let fields = [b"\x82\x87\x84\x01\x0c", b"blog.example".as_slice()].concat();
    let length = u8::try_from(fields.len()).unwrap();
    [[0, 0, length, 1, 5].as_slice(), &stream.to_be_bytes(), fields.as_slice()].concat()
}

fn reset(stream: u32) -> Vec<u8> {
    [[0, 0, 4, 3, 0].as_slice(), &stream.to_be_bytes(), &[0, 0, 0, 8]].concat()
}

/// Reads until the server closes the connection.
async fn closed(stream: &mut TcpStream, received: &mut Vec<u8>) {
    while stream.read_buf(received).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_connection_whose_client_keeps_resetting_requests_is_closed() {
    let (_folder, server, mut stream) = serving(starting()).await;
    let pool = pool(&server);
    stream.write_all(OPENING).await.unwrap();
    let mut received = Vec::new();
    for id in (1..).step_by(2) {
        assert!(id < 2000, "the connection is still open");
        let _closed_is_seen_when_read = stream.write_all(&get(id)).await;
        tokio::select! {
            () = wait_for_requests(&pool, u64::from(id / 2) + 1) => {}
            () = closed(&mut stream, &mut received) => break,
        }
        let _closed_is_seen_when_read = stream.write_all(&reset(id)).await;
    }
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b];
    assert!(received.ends_with(&goaway), "{received:?}");
    server.tasks().close();
    server.tasks().wait().await;
    assert_eq!(server.metrics().floods.get(), 1);
    assert_eq!(pool.stats().waiting, 0, "reset requests still wait");
}

#[tokio::test]
async fn after_a_first_reset_a_request_that_is_reset_at_once_costs_nothing() {
    let (_folder, server, mut stream) = serving(starting()).await;
    let pool = pool(&server);
    stream.write_all(OPENING).await.unwrap();
    stream.write_all(&[get(1), reset(1), get(3)].concat()).await.unwrap();
    wait_for_requests(&pool, 2).await;
    let both = (5..25).step_by(2).flat_map(|it| [get(it), reset(it)].concat());
    stream.write_all(&both.chain(get(25)).collect::<Vec<_>>()).await.unwrap();
    wait_for_requests(&pool, 3).await;
    assert_eq!((pool.stats().waiting, pool.requests_seen()), (2, 3), "reset requests asked for a worker");
}

#[tokio::test]
async fn requests_reset_before_they_are_accepted_count_as_a_flood() {
    let (_folder, server, mut stream) = serving(starting()).await;
    let all = (1..100).step_by(2).flat_map(|it| [get(it), reset(it)].concat());
    stream.write_all(&OPENING.iter().copied().chain(all).collect::<Vec<_>>()).await.unwrap();
    closed(&mut stream, &mut Vec::new()).await;
    server.tasks().close();
    server.tasks().wait().await;
    assert_eq!(server.metrics().floods.get(), 1);
}
