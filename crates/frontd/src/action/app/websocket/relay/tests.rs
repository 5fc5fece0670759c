//! Relays with a worker that the test plays.

use std::path::Path;

use api::runner::{Response, ServeRequest, SocketMessage, serve_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_stream::StreamExt as _;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::backend::pool::{Admission, Attempts, Isolation, Pool, Room as WorkerRoom};
use crate::backend::{Link, Outcome, Progress};
use crate::observe::metrics::Metrics;

type Sent = Pin<Box<dyn tokio_stream::Stream<Item = ServeRequest> + Send>>;

/// A WebSocket without a connection to a worker.
struct Fixture {
    client: DuplexStream,
    sent: Sent,
    messages: Arc<Quota>,
    relay: AbortOnDropHandle<Report>,
    link: Arc<Link>,
}

impl Fixture {
    async fn new(message_limit: usize) -> Self {
        Self::with(message_limit, 1 << 20).await
    }

    /// `buffer`: how many bytes the connection holds that weren't read.
    async fn with(message_limit: usize, buffer: usize) -> Self {
        let (link, sent) = Link::new("blog-1", Path::new("/nowhere"));
        let mut sent: Sent = Box::pin(sent);
        let pool = Pool::new(Admission::Queue(1));
        pool.link(0, 1, WorkerRoom { requests: 1, sockets: 1 }, Arc::clone(&link));
        let mut attempts = Attempts::new(Duration::ZERO).for_websocket();
        let lease = pool.acquire(0, Isolation::Shared, &mut attempts).await.unwrap();
        let mut pending = link.begin(lease, None, api::runner::Request::default());
        link.receive_response(Response { id: 1, status: 101, ..Response::default() });
        let progress = std::future::poll_fn(|cx| pending.poll_progress(cx)).await;
        let Progress::Settled(Outcome::Socket { socket, .. }) = progress else { panic!() };
        for _ in 0..2 {
            sent.next().await.unwrap();
        }
        let (near, client) = tokio::io::duplex(buffer);
        let messages = Quota::new(1 << 20);
        let limits = Limits {
            message: message_limit,
            send_timeout: Duration::from_secs(60),
            memory: Quota::new(1 << 20),
            messages: Arc::clone(&messages),
            drain: CancellationToken::new(),
            drained: CancellationToken::new(),
        };
        let relay = Relay::new(near, socket, None, limits, Metrics::new().sockets("blog"));
        let relay = AbortOnDropHandle::new(TaskTracker::new().spawn(relay));
        Self { client, sent, messages, relay, link }
    }

    /// The worker sends a binary message.
    fn say(&self, len: usize) {
        let payload = vec![b'x'; len].into();
        self.link.receive_message(SocketMessage { id: 1, payload, text: false, more: false });
    }

    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.client.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn sent(&mut self) -> serve_request::Message {
        self.sent.next().await.unwrap().message.unwrap()
    }
}

/// A masked frame. The mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    match u8::try_from(payload.len()) {
        Ok(len @ 0..126) => [&[first, len | 0x80, 0, 0, 0, 0], payload].concat(),
        _ => {
            let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
            [&[first, 0xff, 0, 0, 0, 0], &len[..], &[0; 4], payload].concat()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_pinged_and_disconnected_only_if_it_does_not_respond() {
    let mut it = Fixture::new(1000).await;
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(it.read(2).await, b"\x89\0");
        it.client.write_all(&frame(0x8a, b"")).await.unwrap();
    }
    assert_eq!(began.elapsed().as_secs(), 60);
    it.client.write_all(&frame(0x82, b"busy")).await.unwrap();
    assert!(matches!(it.sent().await, serve_request::Message::SocketMessage(_)));
    assert_eq!(it.read(2).await, b"\x89\0");
    assert_eq!(began.elapsed().as_secs(), 100, "a busy client isn't pinged");
    let rest = it.read(4).await;
    assert_eq!((&rest[..1], &rest[2..]), (&b"\x88"[..], &b"\x03\xf3"[..]), "1011");
    assert_eq!(began.elapsed().as_secs(), 120);
    let serve_request::Message::SocketClose(close) = it.sent().await else { panic!("not closed") };
    assert_eq!(close.code, 1006);
    assert_eq!((&mut it.relay).await.unwrap().code, 1011);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_not_send_too_many_pings() {
    let mut it = Fixture::new(1000).await;
    let pings = frame(0x89, b"").repeat(PINGS_MAX as usize + 1);
    it.client.write_all(&pings).await.unwrap();
    assert_eq!(it.read(2 * PINGS_MAX as usize).await, b"\x8a\0".repeat(PINGS_MAX as usize));
    let rest = it.read(4).await;
    assert_eq!((&rest[..1], &rest[2..]), (&b"\x88"[..], &b"\x03\xf0"[..]), "1008");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_closes_its_side_is_disconnected() {
    let mut it = Fixture::new(1000).await;
    it.client.write_all(&frame(0x83, b"")).await.unwrap();
    let mut rest = Vec::new();
    it.client.read_to_end(&mut rest).await.unwrap();
    assert_eq!((rest[0], &rest[2..4]), (0x88, &b"\x03\xea"[..]), "1002");
    assert_eq!((&mut it.relay).await.unwrap().code, 1002);
}

/// 1 MiB for all messages of an address.
#[tokio::test(start_paused = true)]
async fn large_messages_wait_for_memory_and_are_refused_if_there_is_none_for_too_long() {
    let mut it = Fixture::new(4 << 20).await;
    let message = frame(0x82, &vec![1; 300_000]);
    it.client.write_all(&message).await.unwrap();
    let mut received = 0;
    let mut parts = Vec::new();
    while received < 3 * 65_536 {
        let serve_request::Message::SocketMessage(part) = it.sent().await else { panic!("no message") };
        received += part.payload.len();
        parts.push(part);
    }
    assert!(it.messages.used() >= 300_000, "it counts until its parts are gone");
    drop(it);

    let mut it = Fixture::new(4 << 20).await;
    let others = it.messages.hold(1 << 20);
    it.client.write_all(&message).await.unwrap();
    let rest = it.read(4).await;
    assert_eq!((&rest[..1], &rest[2..]), (&b"\x88"[..], &b"\x03\xf5"[..]), "1013");
    drop(others);
    drop(it.client);
    (&mut it.relay).await.unwrap();
    assert_eq!(it.messages.used(), 0);
}

/// Who was never asked hasn't failed to respond.
#[tokio::test(start_paused = true)]
async fn a_client_that_could_not_be_pinged_is_pinged_before_it_is_disconnected() {
    let mut it = Fixture::with(1000, 64 * 1024).await;
    let began = Instant::now();
    // More than the connection and the output hold.
    for _ in 0..4 {
        it.say(60_000);
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    it.read(4 * 60_004).await;
    assert_eq!(it.read(2).await, b"\x89\0");
    assert_eq!(began.elapsed().as_secs(), 40);
    it.client.write_all(&frame(0x8a, b"")).await.unwrap();
    assert_eq!(it.read(2).await, b"\x89\0");
    assert_eq!(began.elapsed().as_secs(), 60);
}

/// Its response to the ping comes after what it hasn't read yet.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_alive() {
    let mut it = Fixture::with(1000, 64 * 1024).await;
    let began = Instant::now();
    for _ in 0..2 {
        it.say(60_000);
    }
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        it.read(20_000).await;
    }
    assert_eq!(it.read(8 + 2).await[8..], *b"\x89\0");
    assert_eq!(began.elapsed().as_secs(), 42, "it had 20 s");
    it.client.write_all(&frame(0x8a, b"")).await.unwrap();
    assert_eq!(it.read(2).await, b"\x89\0");
}
