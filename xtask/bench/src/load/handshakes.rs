//! Sequential TLS connections, each with a full handshake and one small file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::{join_all, try_join_all};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tests::client::{Protocol, trusting};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use super::Load;
use crate::site::HOST;
use crate::stack::Stack;

const THREADS: usize = 2;
const CONNECTIONS_A_THREAD: usize = 8;
const REQUEST: &[u8] = b"GET /static/1k.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const BODY: usize = 1 << 10;

/// Opens connections for that long.
pub(crate) async fn run(stack: &Stack, lasting: Duration) -> anyhow::Result<Load> {
    let mut tls = trusting(&stack.certificate, Protocol::Http1)?;
    tls.resumption = Resumption::disabled();
    let visitor = Visitor { connector: Arc::new(tls).into(), address: stack.https };
    let until = Instant::now() + lasting;
    let threads = (0..THREADS).map(|_| {
        let visitor = visitor.clone();
        spawn_blocking(move || visitor.visit_on_this_thread(until))
    });
    let mut total = Tally::default();
    for tally in try_join_all(threads).await.context("a thread of the client")? {
        total.add(tally?);
    }
    let first_error = total.error.unwrap_or_default();
    Load::of(total.latencies, total.failed, lasting)
        .with_context(|| format!("no connection came about: {first_error}"))
}

#[derive(Clone)]
struct Visitor {
    connector: TlsConnector,
    address: SocketAddr,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<u64>,
    failed: u64,
    error: Option<String>,
}

impl Visitor {
    fn visit_on_this_thread(&self, until: Instant) -> anyhow::Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tallies = join_all((0..CONNECTIONS_A_THREAD).map(|_| self.visit_until(until)));
        let mut total = Tally::default();
        runtime.block_on(tallies).into_iter().for_each(|tally| total.add(tally));
        Ok(total)
    }

    async fn visit_until(&self, until: Instant) -> Tally {
        let mut tally = Tally::default();
        while Instant::now() < until {
            let begun = Instant::now();
            match self.visit().await {
                Ok(()) => tally.latencies.extend(u64::try_from(begun.elapsed().as_micros())),
                Err(error) => tally.fail(&error),
            }
        }
        tally
    }

    async fn visit(&self) -> anyhow::Result<()> {
        let tcp = TcpStream::connect(self.address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let mut stream = self.connector.connect(ServerName::try_from(HOST)?, tcp).await.context("TLS")?;
        let kind = stream.get_ref().1.handshake_kind();
        ensure!(kind == Some(HandshakeKind::Full), "a full handshake expected, not {kind:?}");
        stream.write_all(REQUEST).await.context("write")?;
        let mut answer = Vec::with_capacity(2 * BODY);
        while !is_whole(&answer) {
            ensure!(stream.read_buf(&mut answer).await.context("read")? > 0, "the answer is cut");
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + BODY || !answer.starts_with(b"HTTP/1.1 200 "))
}

impl Tally {
    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.error.get_or_insert_with(|| format!("{error:#}"));
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}
