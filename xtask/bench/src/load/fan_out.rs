//! One event or message to many clients. The next one is published when all of them have it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::{Either, select, try_join_all};
use http::Method;
use tests::client::{Answer, empty, request};
use tests::connection::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Load;
use super::socket::{Socket, find};
use crate::site::HOST;
use crate::stack::Stack;

/// The number of clients that receive each message.
pub(crate) const CLIENTS: u16 = 256;
/// How long a message may take to all clients.
const TIMEOUT: Duration = Duration::from_secs(10);
const BROADCAST: &str = "/ws/broadcast";
/// Clients connect in groups, since servers have short queues of new connections.
const GROUP: u16 = 32;

/// The clients, and the one that publishes.
pub(crate) struct FanOut {
    readers: Vec<Reader>,
    publisher: Publisher,
}

enum Reader {
    Events(Events),
    Socket(Socket),
}

enum Publisher {
    /// Sends requests.
    Request(Connection),
    /// Sends messages, and receives them as well.
    Socket(Socket),
}

/// A stream of server-sent events.
struct Events {
    tcp: TcpStream,
    input: Vec<u8>,
}

/// The message that is on its way.
#[derive(Default)]
struct Round {
    number: Cell<u64>,
    begun: Cell<Option<Instant>>,
    /// How many clients don't have it yet.
    missing: Cell<usize>,
    complete: Notify,
    latencies: RefCell<Vec<u64>>,
}

impl FanOut {
    /// Opens streams of events.
    pub(crate) async fn events(stack: &Stack) -> anyhow::Result<Self> {
        let readers = in_groups(async || Ok(Reader::Events(Events::open(stack).await?))).await?;
        Ok(Self { readers, publisher: Publisher::Request(stack.client()?.connect().await?) })
    }

    /// Opens WebSockets.
    pub(crate) async fn broadcast(stack: &Stack) -> anyhow::Result<Self> {
        let open = async || Socket::connect(stack.http, BROADCAST).await;
        let readers = in_groups(async || Ok(Reader::Socket(open().await?))).await?;
        Ok(Self { readers, publisher: Publisher::Socket(open().await?) })
    }

    /// Publishes for that long. The latencies are those from the publication to each client.
    pub(crate) async fn run(mut self, lasting: Duration) -> anyhow::Result<Load> {
        let round = Round::default();
        let count = self.readers.len();
        let reading = try_join_all(self.readers.iter_mut().map(|reader| read(reader, &round)));
        let publishing = publish(&mut self.publisher, &round, count, lasting);
        let lasted = match select(Box::pin(publishing), reading).await {
            Either::Left((lasted, _)) => lasted?,
            Either::Right((Ok(_), _)) => bail!("all clients stopped reading"),
            Either::Right((Err(error), _)) => return Err(error),
        };
        Load::of(round.latencies.take(), 0, lasted).context("no client received a message")
    }
}

async fn in_groups(open: impl AsyncFn() -> anyhow::Result<Reader>) -> anyhow::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for _ in 0..CLIENTS / GROUP {
        readers.extend(try_join_all((0..GROUP).map(|_| open())).await?);
    }
    Ok(readers)
}

async fn publish(
    publisher: &mut Publisher,
    round: &Round,
    readers: usize,
    lasting: Duration,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        round.number.set(round.number.get() + 1);
        round.missing.set(readers);
        round.begun.set(Some(Instant::now()));
        let published = async {
            publisher.send(round.number.get()).await?;
            round.complete.notified().await;
            anyhow::Ok(())
        };
        let late = || format!("{} of {readers} clients did not get a message in time", round.missing.get());
        timeout(TIMEOUT, published).await.with_context(late)??;
    }
    Ok(begun.elapsed())
}

async fn read(reader: &mut Reader, round: &Round) -> anyhow::Result<()> {
    loop {
        let number = reader.next().await?;
        ensure!(number == round.number.get(), "message {} was due, not {number}", round.number.get());
        round.received();
    }
}

impl Round {
    fn received(&self) {
        let latency = self.begun.get().and_then(|begun| u64::try_from(begun.elapsed().as_micros()).ok());
        self.latencies.borrow_mut().extend(latency);
        self.missing.set(self.missing.get().saturating_sub(1));
        if self.missing.get() == 0 {
            self.complete.notify_one();
        }
    }
}

impl Publisher {
    async fn send(&mut self, number: u64) -> anyhow::Result<()> {
        match self {
            Self::Request(connection) => {
                let request = request(Method::GET, &format!("/publish?{number}"), empty());
                let response = connection.send(request).await.context("publish an event")?;
                Answer::read(response).await?.expect(200).map(drop)
            }
            Self::Socket(socket) => {
                socket.send(number.to_string().as_bytes()).await?;
                socket.receive().await.map(drop)
            }
        }
    }
}

impl Reader {
    async fn next(&mut self) -> anyhow::Result<u64> {
        match self {
            Self::Events(events) => events.next().await,
            Self::Socket(socket) => parse(socket.receive().await?),
        }
    }
}

impl Events {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(stack.http).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let mut events = Self { tcp, input: Vec::new() };
        let request = format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
        events.tcp.write_all(request.as_bytes()).await.context("ask for events")?;
        let welcome = events.block().await?;
        ensure!(welcome.starts_with(b"HTTP/1.1 200 "), "no events: {}", String::from_utf8_lossy(&welcome));
        Ok(events)
    }

    async fn next(&mut self) -> anyhow::Result<u64> {
        let block = self.block().await?;
        let data = find(&block, b"data: ").context("an event with data")?;
        parse(&block[data + b"data: ".len()..])
    }

    /// Returns everything up to the next empty line of an event, with the lengths of chunks in between.
    async fn block(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.input, b"\n\n") {
                let rest = self.input.split_off(end + 2);
                let mut block = std::mem::replace(&mut self.input, rest);
                block.truncate(end);
                return Ok(block);
            }
            let count = self.tcp.read_buf(&mut self.input).await.context("read events")?;
            ensure!(count > 0, "the stream of events ended");
        }
    }
}

fn parse(text: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(text).context("a number")?;
    text.trim().parse().with_context(|| format!("parse the number {text:?}"))
}
