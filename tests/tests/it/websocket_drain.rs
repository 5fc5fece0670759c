//! WebSockets across reloads: they stay with their worker until `timeouts.websocket_drain` is over.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::client::Protocol;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers messages and requests with its pid.
const APP: &str = "
import os


async def app(scope, receive, send):
    if scope['type'] == 'http':
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        return await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})
    if scope['type'] == 'lifespan':
        raise NotImplementedError
    await receive()
    await send({'type': 'websocket.accept'})
    while (message := await receive())['type'] == 'websocket.receive':
        await send({'type': 'websocket.send', 'text': str(os.getpid())})
    print('ended with', message['code'], flush=True)
";

/// How long to wait for a frame.
const SOON: Duration = Duration::from_secs(30);

/// A client's WebSocket.
struct Socket(TcpStream);

impl Socket {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let origin = stack.client("chat", Protocol::Plain)?.origin();
        let host = origin.strip_prefix("http://").context("a URL")?;
        let port = host.rsplit(':').next().context("a port")?.parse()?;
        let mut tcp = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        tcp.write_all(head.as_bytes()).await?;
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.push(timeout(SOON, tcp.read_u8()).await??);
        }
        let response = String::from_utf8_lossy(&response);
        ensure!(response.starts_with("HTTP/1.1 101 "), "{response}");
        Ok(Self(tcp))
    }

    /// The pid of the worker at its other end.
    async fn pid(&mut self) -> anyhow::Result<String> {
        // A text with a mask of zeros.
        self.0.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'?']).await?;
        let (kind, payload) = self.frame().await?;
        ensure!(kind == 0x81, "{kind:x} {}", payload.escape_ascii());
        Ok(String::from_utf8(payload)?)
    }

    /// The next short frame.
    async fn frame(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let kind = timeout(SOON, self.0.read_u8()).await??;
        let mut payload = vec![0; usize::from(self.0.read_u8().await?)];
        self.0.read_exact(&mut payload).await?;
        Ok((kind, payload))
    }

    /// The code that it is closed with.
    async fn closed(&mut self) -> anyhow::Result<u16> {
        let (kind, payload) = self.frame().await?;
        ensure!(kind == 0x88 && payload.len() >= 2, "{kind:x} {}", payload.escape_ascii());
        Ok(u16::from_be_bytes([payload[0], payload[1]]))
    }
}

fn vassal(folder: &Path) -> anyhow::Result<Vassal> {
    fs::write(folder.join("site.py"), APP)?;
    Ok(Vassal::new("chat", folder, "site.py:app").workers(1))
}

#[tokio::test]
async fn a_reload_cuts_no_websocket_until_the_time_for_it_is_over() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        stack.all_ready().await?;
        let mut socket = Socket::open(stack).await?;
        let old = socket.pid().await?;
        let mut others = Vec::new();
        for reloads in 1..=2 {
            let mut another = Socket::open(stack).await?;
            let pid = another.pid().await?;
            let sockets = |app: &App| app.workers.iter().map(|it| it.sockets).sum::<u32>();
            stack.until("chat", "its sockets are known", |app| sockets(app) == reloads + 1).await?;
            let told = stack.command("reload", &["chat"]).await?;
            let workers = if reloads == 1 { "in 1 old worker," } else { "in 2 old workers," };
            let expected = format!("chat: {} WebSockets still open {workers} for up to 59m", reloads + 1);
            ensure!(told.contains(&expected), "{told}");
            ensure!(socket.pid().await? == old, "it was moved");
            ensure!(another.pid().await? == pid, "it was moved");
            let served = stack.client("chat", Protocol::Http1)?.get("/").await?.expect(200)?.text();
            ensure!(served != old && served != pid, "the old worker {served} got a request");
            others.push(another);
        }
        let status = stack.command("status", &[]).await?;
        ensure!(status.contains("draining, 2 WebSockets open, up to 59m"), "{status}");

        // A shorter limit applies to workers that drain already.
        stack.put(&vassal(folder.path())?.table("[timeouts]\nwebsocket_drain = \"0s\""))?;
        ensure!(socket.closed().await? == 1012, "another code");
        stack.logged(&["ended with 1012"]).await?;
        stack.until("chat", "the old workers are gone", App::is_whole).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stop_waits_for_no_websocket() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        stack.all_ready().await?;
        let mut socket = Socket::open(stack).await?;
        socket.pid().await?;
        stack.remove("chat")?;
        ensure!(socket.closed().await? == 1012, "another code");
        stack.logged(&["ended with 1012"]).await?;
        Ok(())
    })
    .await
}
