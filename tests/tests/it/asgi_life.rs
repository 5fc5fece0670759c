//! The life of a worker with an event loop: reloads under load, a drain that the app is told of, files.

use std::fs;

use anyhow::{Context as _, ensure};
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use tests::client::{Protocol, empty, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack;
use tests::vassal::Vassal;

/// An app with streams, files and a lifespan.
const APP: &str = "
import asyncio
import itertools
import os
import threading

import imperium

ending, running, numbers = asyncio.Event(), [], itertools.count()


async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        return await lifespan(scope, receive, send)
    path = scope['path']
    if path in ('/temporary', '/exact'):
        return await send_file(path, send)
    headers = [(b'content-type', b'text/plain')]
    if path == '/connection-headers':
        # The first one is what many libraries for event streams send, and no reason for a warning.
        headers += [(b'connection', b'keep-alive'), (b'keep-alive', b'timeout=5')]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    if path == '/until-drained':
        await send({'type': 'http.response.body', 'body': b'hello\\n', 'more_body': True})
        await imperium.draining()
        await send({'type': 'http.response.body', 'body': b'goodbye\\n'})
    elif path == '/file':
        await send({'type': 'http.response.pathsend', 'path': os.environ['FILE']})
    elif path == '/until-the-end':
        running.append(asyncio.current_task())
        await send({'type': 'http.response.body', 'body': b'hello\\n', 'more_body': True})
        await ending.wait()
        print('its request has ended', flush=True)
    elif path == '/health':
        await send({'type': 'http.response.body', 'body': b'x' * 100_000, 'more_body': True})
        while (await receive())['type'] != 'http.disconnect':
            pass
    elif path == '/hooks':
        end = threading.Event()
        for _ in range(3):
            imperium.on_drain(end.set)
        removed = imperium.remove_on_drain(end.set), imperium.remove_on_drain(end.set)
        await send({'type': 'http.response.body', 'body': str(removed).encode()})
    elif path == '/state':
        body = f\"{scope['state']['started']} {imperium.request_id() == dict(scope['headers'])[b'x-request-id'].decode()}\"
        await send({'type': 'http.response.body', 'body': body.encode()})
    elif path == '/echo':
        body = scope['query_string']
        while scope['method'] == 'POST':
            message = await receive()
            body += message['body']
            if not message['more_body']:
                break
        await send({'type': 'http.response.body', 'body': body})
    else:
        await send({'type': 'http.response.body', 'body': b'ok'})


async def send_file(path, send):
    file = os.environ['FILE']
    headers = [(b'etag', b'\"of-the-app\"'), (b'last-modified', b'Mon, 01 Jan 2024 00:00:00 GMT'), (b'x-own', b'1')]
    if path == '/temporary':
        headers, file = [], f'{file}.{next(numbers)}'
        with open(file, 'w') as written:
            written.write('temporary' * 100_000)
    await send({'type': 'http.response.start', 'status': 203, 'headers': headers})
    await send({'type': 'http.response.pathsend', 'path': file})
    if path == '/temporary':
        os.remove(file)


async def lifespan(scope, receive, send):
    await receive()
    if why := os.environ.get('FAILS'):
        return await send({'type': 'lifespan.startup.failed', 'message': why})
    scope['state']['started'] = os.getpid()
    await send({'type': 'lifespan.startup.complete'})
    await receive()
    ending.set()
    await asyncio.gather(*running)
    for _ in range(100):
        await asyncio.sleep(0)
    print('the app has shut down', flush=True)
    await send({'type': 'lifespan.shutdown.complete'})
";

fn vassal(folder: &std::path::Path) -> anyhow::Result<Vassal> {
    fs::write(folder.join("site.py"), APP)?;
    Ok(Vassal::new("async", folder, "site.py:app").key("interface = \"asgi\""))
}

#[tokio::test]
async fn a_reload_under_load_loses_nothing_and_the_app_shuts_down() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(2)], async |stack| {
        stack.all_ready().await?;
        let client = stack.client("async", Protocol::Http1)?;
        let load = Load::start_mixed(&client, 8, Kind::Both);
        for _ in 0..3 {
            load.flows(100).await?;
            stack.command("reload", &["async"]).await?;
            stack.logged(&["the app has shut down"]).await?;
        }
        load.flows(100).await?;
        load.finish().await?.all_right()?;
        let state = client.get("/state").await?.expect(200)?.text();
        let pids = stack.ready("async", 2).await?;
        ensure!(pids.iter().any(|pid| state == format!("{pid} True")), "{state} of {pids:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_startup_that_fails_is_reported_in_the_words_of_the_app() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Starlette sends a formatted traceback.
    let traceback = "Traceback (most recent call last):\\n  File \\\"site.py\\\", line 1, in start\\nOSError: no database\\n";
    let cases = [
        (
            traceback,
            "cannot run its app: OSError: no database\nTraceback (most recent call last):\n  File \"site.py\"",
        ),
        ("the pool is empty", "cannot run its app: the pool is empty"),
    ];
    stack::with([vassal(folder.path())?.workers(1)], async |stack| {
        for (message, expected) in cases {
            stack.put(&vassal(folder.path())?.env("FAILS", message))?;
            let app = stack.until("async", expected, |it| it.error().contains(expected)).await?;
            ensure!(!app.error().contains("imperium>"), "{}", app.error());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn connection_headers_of_event_streams_are_no_reason_for_a_warning() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(1)], async |stack| {
        stack.all_ready().await?;
        let answer = stack.client("async", Protocol::Http1)?.get("/connection-headers").await?.expect(200)?;
        ensure!(answer.header("keep-alive").is_empty(), "{answer:?}");
        // The only warning of the worker is about the other one.
        stack.logged(&["the app sends connection headers", "header=keep-alive"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stream_sends_a_last_message_when_its_worker_drains() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(1)], async |stack| {
        stack.all_ready().await?;
        let client = stack.client("async", Protocol::Http2)?;
        let mut stream = client.open(request(Method::GET, "/until-drained", empty())).await?;
        let first = stream.body_mut().frame().await.context("a first chunk")??;
        ensure!(first.data_ref().is_some_and(|it| it == "hello\n"), "{first:?}");
        stack.command("reload", &["async"]).await?;
        let rest = stream.into_body().collect().await?.to_bytes();
        ensure!(rest == "goodbye\n", "{rest:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_is_sent_whether_or_not_its_folder_is_frontds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sent = tempfile::tempdir()?;
    let content: String = "0123456789".repeat(100_000);
    for (place, name) in [(&folder, "own"), (&sent, "frontd's")] {
        let path = place.path().join("large.txt");
        fs::write(&path, &content)?;
        let vassal = vassal(folder.path())?.env("FILE", &path.display().to_string());
        let table = format!("[sendfile]\n\"/sent/\" = {:?}\n", sent.path().display().to_string());
        stack::with([vassal.table(&table)], async |stack| {
            stack.all_ready().await?;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let answer = stack.client("async", protocol)?.get("/file").await?.expect(200)?;
                ensure!(answer.text() == content, "{name} over {protocol}: {} bytes", answer.text().len());
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_preloaded_app_gets_a_loop_of_its_own_in_each_worker() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let vassal = vassal(folder.path())?.workers(2).key("preload = true").key("loop = \"asyncio\"");
    stack::with([vassal], async |stack| {
        let pids = stack.ready("async", 2).await?;
        let client = stack.client("async", Protocol::Http1)?;
        let state = client.get("/state").await?.expect(200)?.text();
        ensure!(pids.iter().any(|pid| state == format!("{pid} True")), "{state} of {pids:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_shutdown_is_complete_even_if_a_request_ends_in_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for key in ["loop = \"asyncio\"", "loop = \"uvloop\""] {
        let vassal = vassal(folder.path())?.workers(1).key(key).python(&Place::of_tests()?.venv);
        stack::with([vassal], async |stack| {
            stack.all_ready().await?;
            let client = stack.client("async", Protocol::Http1)?;
            let mut stream = client.open(request(Method::GET, "/until-the-end", empty())).await?;
            stream.body_mut().frame().await.context("a first chunk")??;
            // The worker loses the request with its frontd.
            stack.kill(stack.daemon("frontd").await?)?;
            stack.all_ready().await?;
            stack.command("reload", &["async"]).await?;
            stack.logged(&["its request has ended"]).await?;
            stack.logged(&["the app has shut down"]).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_health_path_that_streams_is_healthy() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(1).key("health = \"/health\"")], async |stack| {
        stack.all_ready().await?;
        stack.client("async", Protocol::Http1)?.get("/state").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_sent_may_be_removed_and_its_head_is_the_apps() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sent = tempfile::tempdir()?;
    let path = sent.path().join("file.html");
    fs::write(&path, "0123456789")?;
    let table = format!("[sendfile]\n\"/sent/\" = {:?}\n", sent.path().display().to_string());
    let vassal = vassal(folder.path())?.workers(1).env("FILE", &path.display().to_string()).table(&table);
    stack::with([vassal], async |stack| {
        stack.all_ready().await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("async", protocol)?;
            for _ in 0..10 {
                let answer = client.get("/temporary").await?.expect(203)?;
                ensure!(
                    answer.text() == "temporary".repeat(100_000),
                    "{protocol}: {} bytes",
                    answer.text().len()
                );
            }
            let mut part = request(Method::GET, "/exact", empty());
            part.headers_mut().insert("range", HeaderValue::from_static("bytes=2-3"));
            let answer = client.send(part).await?.expect(203)?;
            ensure!(answer.text() == "0123456789", "{protocol}: {}", answer.text());
            ensure!(answer.header("etag") == "\"of-the-app\"", "{protocol}: {:?}", answer.headers);
            ensure!(
                answer.header("last-modified") == "Mon, 01 Jan 2024 00:00:00 GMT",
                "{:?}",
                answer.headers
            );
            ensure!(answer.header("content-length") == "10", "{protocol}: {:?}", answer.headers);
            for name in ["accept-ranges", "content-range", "content-type"] {
                ensure!(!answer.headers.contains_key(name), "{protocol}: {:?}", answer.headers);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_function_for_the_drain_can_be_removed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?.workers(1)], async |stack| {
        stack.all_ready().await?;
        let removed = stack.client("async", Protocol::Http1)?.get("/hooks").await?.expect(200)?.text();
        ensure!(removed == "(3, 0)", "{removed}");
        Ok(())
    })
    .await
}
