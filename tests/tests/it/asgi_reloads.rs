//! Reloads and restarts of ASGI apps under load: no request, no WebSocket and no message is lost.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use rustix::process::Signal;
use tests::client::{Client, Protocol};
use tests::echoes::{self, Ended};
use tests::load::{Kind, Load};
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};
use tests::websocket::WebSocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Returns the query and the body, or messages.
const APP: &str = "
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        raise NotImplementedError
    if scope['type'] == 'websocket':
        return await echo(receive, send)
    content, more = scope['query_string'], True
    while more:
        message = await receive()
        content, more = content + message['body'], message['more_body']
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': content})


async def echo(receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    while (message := await receive())['type'] == 'websocket.receive':
        await send({**message, 'type': 'websocket.send'})
";

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];
const RELOADS: usize = 5;
/// The messages of a WebSocket. So few that it is gone before too many old workers are kept.
const MESSAGES: u64 = 12;

fn vassal(folder: &Path) -> anyhow::Result<Vassal> {
    fs::write(folder.join("site.py"), APP)?;
    Ok(Vassal::new("async", folder, "site.py:app").workers(2))
}

#[tokio::test]
async fn reloads_under_requests_and_websockets_lose_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        let (mut loads, mut sockets) = (Vec::new(), Sockets::default());
        for protocol in PROTOCOLS {
            let client = stack.client("async", protocol)?;
            loads.push(Load::start(&client, 2, Kind::Both));
            sockets.start(&client);
            sockets.start(&client);
        }
        for _ in 0..RELOADS {
            for load in &loads {
                load.flows(30).await?;
            }
            sockets.flow(60).await?;
            let mut held = WebSocket::open(&stack.client("async", Protocol::Http1)?, "/").await?;
            stack.command("reload", &["async"]).await?;
            let ended = echoes::exchange(&mut held, 0, MESSAGES, &mut Rng::with_seed(0), || false).await;
            ensure!(ended == (MESSAGES, Ended::Complete), "one that was open before: {ended:?}");
        }
        for load in loads {
            load.flows(30).await?;
            load.finish().await?.all_right()?;
        }
        sockets.flow(60).await?;
        sockets.finish().await
    })
    .await
}

/// WebSockets that are opened one after the other, and return numbered messages.
#[derive(Default)]
struct Sockets {
    stop: Arc<AtomicBool>,
    returned: Arc<AtomicU64>,
    last: u64,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Sockets {
    fn start(&mut self, client: &Client) {
        self.last += 1;
        let (client, stop, returned, id) =
            (client.clone(), self.stop.clone(), self.returned.clone(), self.last);
        self.tasks.spawn(async move {
            let mut random = Rng::with_seed(id);
            while !stop.load(Ordering::Relaxed) {
                let mut socket = WebSocket::open(&client, "/").await?;
                let stopped = || stop.load(Ordering::Relaxed);
                let (count, ended) = echoes::exchange(&mut socket, id, MESSAGES, &mut random, stopped).await;
                ensure!(
                    ended == Ended::Complete,
                    "after {count} messages over {}: {ended:?}",
                    client.protocol()
                );
                returned.fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        });
    }

    /// Waits for that many more messages.
    async fn flow(&mut self, more: u64) -> anyhow::Result<()> {
        let goal = self.returned.load(Ordering::Relaxed) + more;
        until("messages return", async || {
            while let Some(failed) = self.tasks.try_join_next() {
                failed??;
            }
            Ok((self.returned.load(Ordering::Relaxed) >= goal).then_some(()))
        })
        .await
    }

    async fn finish(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// A connection whose request the server hasn't read yet.
struct Unread {
    tcp: TcpStream,
    request: Request,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Get,
    Post,
    Handshake,
}

const REQUESTS: [Request; 3] = [Request::Get, Request::Post, Request::Handshake];

impl Request {
    fn text(self) -> &'static str {
        match self {
            Self::Get => "GET /?unread HTTP/1.1\r\nHost: async.localhost\r\n\r\n",
            Self::Post => "POST /?un HTTP/1.1\r\nHost: async.localhost\r\nContent-Length: 4\r\n\r\nread",
            Self::Handshake => {
                "GET / HTTP/1.1\r\nHost: async.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            }
        }
    }

    /// The beginning and the end of the response.
    fn expected(self) -> (&'static str, &'static str) {
        match self {
            Self::Get | Self::Post => ("HTTP/1.1 200 ", "\r\n\r\nunread"),
            Self::Handshake => ("HTTP/1.1 101 ", "\r\n\r\n"),
        }
    }
}

async fn connect(stack: &Stack, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(TcpStream::connect(stack.http).await?);
    }
    Ok(all)
}

impl Unread {
    /// Once it returns, the request is in the kernel's buffers.
    async fn send(mut tcp: TcpStream, request: Request) -> anyhow::Result<Self> {
        tcp.write_all(request.text().as_bytes()).await?;
        Ok(Self { tcp, request })
    }

    /// Returns the connection after the response.
    async fn answered(self) -> anyhow::Result<TcpStream> {
        let Self { mut tcp, request } = self;
        let ((begin, end), mut answer) = (request.expected(), Vec::new());
        // A draining frontd closes a WebSocket at once.
        while !answer.windows(end.len()).any(|it| it == end.as_bytes()) {
            let read = timeout(TIMEOUT, tcp.read_buf(&mut answer)).await;
            let so_far = answer.escape_ascii();
            let count = read.with_context(|| format!("{request:?} got only {so_far}"))??;
            ensure!(count > 0, "{request:?} was closed after {so_far}");
        }
        ensure!(answer.starts_with(begin.as_bytes()), "{request:?} got {}", answer.escape_ascii());
        Ok(tcp)
    }
}

/// Sends a request on each connection, of one kind after the other.
async fn send(connections: Vec<TcpStream>) -> anyhow::Result<Vec<Unread>> {
    let mut all = Vec::new();
    for (tcp, request) in connections.into_iter().zip(REQUESTS.into_iter().cycle()) {
        all.push(Unread::send(tcp, request).await?);
    }
    Ok(all)
}

async fn all_answered(unread: Vec<Unread>) -> anyhow::Result<()> {
    for unread in unread {
        unread.answered().await?;
    }
    Ok(())
}

/// Connections that frontd has accepted, some before and some after a first response, and that are new.
#[tokio::test]
async fn requests_that_a_stopping_frontd_has_not_read_are_answered() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        let mut connections = Vec::new();
        for tcp in connect(stack, 12).await? {
            let first = Unread::send(tcp, Request::Get).await?;
            connections.push(first.answered().await?);
        }
        let before = accepted(stack).await?;
        connections.extend(connect(stack, 12).await?);
        until("frontd has accepted them", async || {
            Ok((accepted(stack).await? >= before + 12.0).then_some(()))
        })
        .await?;
        let frontd = stack.daemon("frontd").await?;
        process::signal(frontd, Signal::STOP)?;
        connections.extend(connect(stack, 12).await?);
        let unread = send(connections).await?;
        process::signal(frontd, Signal::TERM)?;
        process::signal(frontd, Signal::CONT)?;
        all_answered(unread).await
    })
    .await
}

/// frontd has sent them to the only worker, which reads them when it has been told to end.
#[tokio::test]
async fn requests_that_a_stopping_worker_has_not_read_are_answered() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(1)], async |stack| {
        for end in [End::Signal, End::Reload] {
            let worker = stack.ready("async", 1).await?[0];
            process::signal(worker, Signal::STOP)?;
            let unread = send(connect(stack, 24).await?).await?;
            until("they are with the worker", async || {
                let requests = stack.metric("imperium_in_flight", "async").await?;
                let handshakes = stack.metric("imperium_websockets", "async").await?;
                Ok((requests + handshakes >= 24.0).then_some(()))
            })
            .await?;
            match end {
                End::Signal => process::signal(worker, Signal::TERM)?,
                End::Reload => {
                    stack.touch("async")?;
                    let is_replaced = |app: &App| app.ready().iter().any(|it| *it != worker);
                    stack.until("async", "another worker is ready", is_replaced).await?;
                }
            }
            process::signal(worker, Signal::CONT)?;
            all_answered(unread).await.with_context(|| format!("{end:?}"))?;
        }
        Ok(())
    })
    .await
}

/// How a worker is told to end.
#[derive(Debug, Clone, Copy)]
enum End {
    Signal,
    Reload,
}

/// The number of connections that frontd has accepted and not closed.
async fn accepted(stack: &Stack) -> anyhow::Result<f64> {
    let text = stack.probe("/-/metrics").await?.expect(200)?.text();
    let line = text.lines().find_map(|line| line.strip_prefix("imperium_connections "));
    Ok(line.context("the number of connections")?.parse()?)
}
