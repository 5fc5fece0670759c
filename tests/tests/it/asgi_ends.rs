//! What an ASGI app receives at the end of a request or a WebSocket, and what it may still receive after a cancellation.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use tests::client::{Protocol, empty, request};
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Notes what it receives. `/events` returns that.
const APP: &str = "
import asyncio
import os
import time

events = []


async def app(scope, receive, send):
    path = scope['path']
    if scope['type'] == 'websocket':
        assert (await receive())['type'] == 'websocket.connect'
        return await {'/refuse': refuse, '/deny': deny, '/cancel': cancel}[path](receive, send)
    await send({'type': 'http.response.start', 'status': 401 if path == '/early' else 200, 'headers': []})
    if path.startswith('/blocks/'):
        await send({'type': 'http.response.body', 'body': b'first', 'more_body': True})
        while not os.path.exists(path.removeprefix('/blocks')):
            time.sleep(0.001)
        await send({'type': 'http.response.body', 'body': b'last'})
    elif path == '/early':
        await send({'type': 'http.response.body', 'body': b'no'})
        while (message := await receive())['type'] == 'http.request':
            pass
        events.append(f\"early {message['type']}\")
    else:
        await send({'type': 'http.response.body', 'body': ' '.join(events).encode()})


async def refuse(receive, send):
    await send({'type': 'websocket.close', 'code': 1008})
    message = await receive()
    events.append(f\"refuse {message['type']} {message['code']}\")


async def deny(receive, send):
    await send({'type': 'websocket.http.response.start', 'status': 402, 'headers': []})
    await send({'type': 'websocket.http.response.body', 'body': b'pay'})
    message = await receive()
    events.append(f\"deny {message['type']} {message['code']}\")


async def cancel(receive, send):
    await send({'type': 'websocket.accept'})
    waiting = asyncio.get_running_loop().create_task(receive())
    # Until the message has arrived, and the task hasn't continued.
    while not (waiting._fut_waiter and waiting._fut_waiter.done()):
        await asyncio.sleep(0)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        events.append('cancelled')
    message = await receive()
    events.append(message.get('text', message['type']))
";

const SOON: Duration = Duration::from_secs(30);

async fn site(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("site.py"), APP)?;
    let vassal = Vassal::new("ends", folder.path(), "site.py:app").workers(1).key("loop = \"asyncio\"");
    stack::with([vassal], async |stack| {
        stack.all_ready().await?;
        test(stack).await
    })
    .await
}

async fn noted(stack: &Stack, expected: &str) -> anyhow::Result<()> {
    let client = stack.client("ends", Protocol::Plain)?;
    until(&format!("the app has noted {expected:?}"), async || {
        let events = client.get("/events").await?.expect(200)?.text();
        Ok(events.contains(expected).then_some(()))
    })
    .await
}

/// Opens a WebSocket. Returns the connection, and the head of the response.
async fn handshake(stack: &Stack, path: &str) -> anyhow::Result<(TcpStream, String)> {
    let origin = stack.client("ends", Protocol::Plain)?.origin();
    let host = origin.strip_prefix("http://").context("a URL")?;
    let port = host.rsplit(':').next().context("a port")?.parse()?;
    let mut tcp = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await?;
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(timeout(SOON, tcp.read_u8()).await??);
    }
    Ok((tcp, String::from_utf8_lossy(&response).into_owned()))
}

#[tokio::test]
async fn a_refused_websocket_is_disconnected() -> anyhow::Result<()> {
    site(async |stack| {
        for (path, status, noted_as) in [
            ("/refuse", "403", "refuse websocket.disconnect 1006"),
            ("/deny", "402", "deny websocket.disconnect 1006"),
        ] {
            // The connection stays open.
            let (_tcp, response) = handshake(stack, path).await?;
            ensure!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {response}");
            noted(stack, noted_as).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_read_after_the_response_ends_with_a_disconnect() -> anyhow::Result<()> {
    site(async |stack| {
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        for protocol in [Protocol::Plain, Protocol::Http2] {
            let answer = stack.client("ends", protocol)?.post("/early", "text/plain", body.clone()).await?;
            ensure!(answer.status == 401, "{protocol}: {}", answer.status);
        }
        noted(stack, "early http.disconnect early http.disconnect").await
    })
    .await
}

#[tokio::test]
async fn what_was_sent_arrives_although_the_app_blocks_its_loop() -> anyhow::Result<()> {
    site(async |stack| {
        let folder = tempfile::tempdir()?;
        let released = folder.path().join("released");
        let path = format!("/blocks{}", released.display());
        let client = stack.client("ends", Protocol::Plain)?;
        let opened = timeout(SOON, client.open(request(Method::GET, &path, empty()))).await;
        let first = match opened {
            Ok(response) => timeout(SOON, response?.into_body().frame()).await?,
            Err(_) => None,
        };
        fs::write(released, "")?;
        let first = first.context("nothing arrived before the app continued")??;
        ensure!(first.data_ref().is_some_and(|it| it == "first"), "{first:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_receive_that_is_cancelled_takes_no_message() -> anyhow::Result<()> {
    site(async |stack| {
        let (mut tcp, response) = handshake(stack, "/cancel").await?;
        ensure!(response.starts_with("HTTP/1.1 101 "), "{response}");
        // A text with a mask of zeros.
        tcp.write_all(&[0x81, 0x84, 0, 0, 0, 0, b'k', b'e', b'p', b't']).await?;
        noted(stack, "cancelled kept").await
    })
    .await
}
