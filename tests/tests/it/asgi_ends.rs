//! What an ASGI app receives at the end of a request or a WebSocket, and what it may still receive after a cancellation.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt as _;
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
import contextvars
import gc
import inspect
import os
import time

events = []
path_of_request = contextvars.ContextVar('path', default='none')


async def app(scope, receive, send):
    path = scope['path']
    if scope['type'] == 'websocket':
        assert (await receive())['type'] == 'websocket.connect'
        return await SOCKETS[path](receive, send)
    if path == '/cancel-others':
        return await cancel_others(send)
    if path.startswith('/context'):
        inherited = path_of_request.get()
        path_of_request.set(path)
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': inherited.encode()})
        return
    await send({'type': 'http.response.start', 'status': 401 if path == '/early' else 200, 'headers': []})
    if path.startswith('/blocks/'):
        await send({'type': 'http.response.body', 'body': b'first', 'more_body': True})
        while not os.path.exists(path.removeprefix('/blocks')):
            time.sleep(0.001)
        await send({'type': 'http.response.body', 'body': b'last'})
    elif path == '/polls':
        await polls(receive)
        await send({'type': 'http.response.body'})
    elif path == '/early':
        await send({'type': 'http.response.body', 'body': b'no'})
        while (message := await receive())['type'] == 'http.request':
            pass
        events.append(f\"early {message['type']}\")
    else:
        await send({'type': 'http.response.body', 'body': ' '.join(events).encode()})


async def polls(receive):
    await receive()
    for _ in range(1000):
        waiting = asyncio.get_running_loop().create_task(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    del waiting
    gc.collect()
    kept = sum(isinstance(it, asyncio.Future) for it in gc.get_objects())
    events.append(f'polls keep {kept} futures' if kept > 100 else 'polls keep few futures')


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


async def fail(receive, send):
    await send({'type': 'websocket.accept'})
    while (await receive())['type'] == 'websocket.receive':
        pass
    raise FileNotFoundError('a file of the app')


async def cancel_others(send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'cancelling', 'more_body': True})
    # Otherwise, the first step of a task runs when its request arrives.
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
    others = []
    while not others:
        await asyncio.sleep(0)
        others = [it for it in asyncio.all_tasks() if inspect.getcoroutinestate(it.get_coro()) == inspect.CORO_CREATED]
    loop.set_task_factory(None)
    for other in others:
        other.cancel()
    await send({'type': 'http.response.body'})


SOCKETS = {'/refuse': refuse, '/deny': deny, '/cancel': cancel, '/fail': fail}
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

/// As with `is_disconnected` of Starlette, in a loop.
#[tokio::test]
async fn receives_that_are_cancelled_leave_nothing_behind() -> anyhow::Result<()> {
    site(async |stack| {
        stack.client("ends", Protocol::Plain)?.get("/polls").await?.expect(200)?;
        noted(stack, "polls keep few futures").await
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

#[tokio::test]
async fn an_error_of_the_app_is_logged_even_if_it_is_like_that_of_a_lost_client() -> anyhow::Result<()> {
    site(async |stack| {
        let (mut tcp, response) = handshake(stack, "/fail").await?;
        ensure!(response.starts_with("HTTP/1.1 101 "), "{response}");
        // A close frame with a mask of zeros.
        tcp.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await?;
        stack.logged(&["ERROR", "the app raised an exception"]).await?;
        stack.logged(&["FileNotFoundError: a file of the app"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_task_that_is_cancelled_before_it_begins_gets_a_500() -> anyhow::Result<()> {
    site(async |stack| {
        let client = stack.client("ends", Protocol::Http2)?;
        for _ in 0..3 {
            let mut stream = client.open(request(Method::GET, "/cancel-others", empty())).await?;
            let first = stream.body_mut().frame().await.context("a first chunk")??;
            ensure!(first.data_ref().is_some_and(|it| it == "cancelling"), "{first:?}");
            let answer = timeout(SOON, client.get("/events")).await??;
            ensure!(answer.status == 500, "{}", answer.status);
            ensure!(
                stream.into_body().collect().await?.to_bytes().is_empty(),
                "the other request was affected"
            );
        }
        stack.logged(&["the app has cancelled the task of a request before it began"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_inherit_no_context_variables_of_others() -> anyhow::Result<()> {
    site(async |stack| {
        let client = stack.client("ends", Protocol::Http2)?;
        for round in 0..20 {
            let paths: Vec<_> = (0..50).map(|it| format!("/context/{round}/{it}")).collect();
            let answers = join_all(paths.iter().map(|it| client.get(it))).await;
            for answer in answers {
                let inherited = answer?.expect(200)?.text();
                ensure!(inherited == "none", "a request has the context of {inherited}");
            }
        }
        Ok(())
    })
    .await
}
