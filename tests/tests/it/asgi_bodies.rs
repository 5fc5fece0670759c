//! Bodies of ASGI apps: in both directions at once, and clients that leave in between.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tests::client::{Body, Client, Protocol, empty, full, request};
use tests::pattern::Pattern;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::until;
use tests::wire::Wire;
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const APP: &str = r#"
import asyncio, hashlib, os, urllib.parse

START = {'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]}

def piece(body, more=True):
    return {'type': 'http.response.body', 'body': body, 'more_body': more}

def record(file, text):
    with open(file, 'a') as to:
        to.write(text + '\n')

async def pieces(receive):
    while True:
        message = await receive()
        if message['type'] == 'http.disconnect':
            raise EOFError
        yield message['body']
        if not message.get('more_body'):
            return

async def echo(query, receive, send):
    await send(START)
    await send(piece(b'echo: '))
    async for part in pieces(receive):
        await send(piece(part))
    await send(piece(b'', False))

async def late(query, receive, send):
    await send(START)
    await send(piece(b'late: '))
    # The client has it, so the call for the response is open.
    while not os.path.exists(query['gate']):
        await asyncio.sleep(0.01)
    async for part in pieces(receive):
        await send(piece(part))
    await send(piece(b'', False))

async def digest(query, receive, send):
    sha, length = hashlib.sha256(), 0
    async for part in pieces(receive):
        sha.update(part)
        length += len(part)
    await send(START)
    await send(piece(f'{length} {sha.hexdigest()}'.encode(), False))

async def watch(query, receive, send):
    file = query['file']
    try:
        async for part in pieces(receive):
            record(file, f'received {len(part)}')
        record(file, 'complete')
        record(file, (await receive())['type'])
    except EOFError:
        record(file, 'http.disconnect')
    try:
        await send(START)
        await send(piece(b'late', False))
    except OSError:
        record(file, 'OSError')

async def events(query, receive, send):
    await send(START)
    for number in (1, 2, 3):
        await send(piece(f'data: {number}\n\n'.encode()))
        while not os.path.exists(f'{query["gate"]}{number}'):
            await asyncio.sleep(0.01)
    while (await receive())['type'] != 'http.disconnect':
        pass
    record(query['file'], 'http.disconnect')

async def trailers(query, receive, send):
    head = dict(START, trailers=True, headers=[(b'trailer', b'x-checksum')])
    await send(head)
    await send(piece(b'body', False))
    await send({'type': 'http.response.trailers', 'headers': [(b'x-checksum', b'42')], 'more_trailers': False})

async def app(scope, receive, send):
    assert scope['type'] == 'http'
    query = dict(urllib.parse.parse_qsl(scope['query_string'].decode()))
    await globals()[scope['path'].strip('/')](query, receive, send)
"#;

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

async fn with_app(
    set: impl FnOnce(Vassal) -> Vassal,
    test: impl AsyncFnOnce(&Stack, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("site.py"), APP)?;
    let vassal = set(Vassal::new("site", folder.path(), "site.py:app"));
    stack::with([vassal], async |stack| test(stack, folder.path()).await).await
}

/// A body whose pieces the test sends. An error is how a client leaves.
fn by_hand() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (send, receive) = mpsc::channel(1);
    let frames =
        futures_util::stream::unfold(receive, async |mut receive: mpsc::Receiver<io::Result<Bytes>>| {
            let block = receive.recv().await?;
            Some((block.map(Frame::data), receive))
        });
    (send, StreamBody::new(frames).boxed())
}

fn post(path: &str, body: Body) -> Request<Body> {
    request(Method::POST, path, body)
}

/// Reads a response until it has received `expected`.
async fn read(body: &mut Incoming, expected: &str) -> anyhow::Result<()> {
    let mut read = Vec::new();
    while read.len() < expected.len() {
        let frame =
            body.frame().await.with_context(|| format!("the response ended before {expected:?}"))??;
        read.extend_from_slice(frame.data_ref().map_or(&[][..], |it| it));
    }
    ensure!(read == expected.as_bytes(), "{expected:?} expected, not {}", read.escape_ascii());
    Ok(())
}

/// Waits until the app has recorded this.
async fn recorded(file: &Path, expected: &str) -> anyhow::Result<()> {
    let what = format!("{expected:?} in {}", file.display());
    until(&what, async || Ok((fs::read_to_string(file).unwrap_or_default() == expected).then_some(()))).await
}

#[tokio::test]
async fn a_body_and_its_response_are_streamed_at_the_same_time() -> anyhow::Result<()> {
    with_app(
        |it| it,
        async |stack, folder| {
            for protocol in PROTOCOLS {
                let client = stack.client("site", protocol)?;
                let gate = folder.join(format!("{protocol:?}"));
                for (path, first) in
                    [("/echo".to_owned(), "echo: "), (format!("/late?gate={}", gate.display()), "late: ")]
                {
                    let (more, body) = by_hand();
                    let mut response = client.open(post(&path, body)).await?.into_body();
                    read(&mut response, first).await?;
                    fs::write(&gate, "")?;
                    for part in ["abc", "de", "f"] {
                        more.send(Ok(part.into())).await?;
                        read(&mut response, part).await?;
                    }
                    drop(more);
                    let rest = response.collect().await?.to_bytes();
                    ensure!(rest.is_empty(), "{protocol}: {rest:?}");
                }
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn bodies_of_every_size_arrive() -> anyhow::Result<()> {
    with_app(
        |it| it,
        async |stack, _| {
            for protocol in PROTOCOLS {
                let client = stack.client("site", protocol)?;
                for size in [0, 1, 65_536, 65_537, 300_000, 20_000_000] {
                    let expected = format!("{size} {}", Pattern::of(size).sha256());
                    // A safe method's body is sent complete.
                    for (method, body) in [
                        (Method::POST, Pattern::of(size).sized()),
                        (Method::POST, Pattern::of(size).streamed()),
                        (Method::GET, Pattern::of(size).sized()),
                    ] {
                        let answer = client.send(request(method.clone(), "/digest", body)).await?;
                        let answer = answer.expect(200)?.text();
                        ensure!(answer == expected, "{protocol} {method}: {answer}, not {expected}");
                    }
                    let echoed = client.send(post("/echo", Pattern::of(size).sized())).await?.expect(200)?;
                    ensure!(echoed.body.len() as u64 == size + 6, "{protocol}: {} echoed", echoed.body.len());
                }
            }
            Ok(())
        },
    )
    .await
}

/// Each event is sent only after the client has received the one before.
#[tokio::test]
async fn events_arrive_one_by_one_and_the_app_learns_when_nobody_listens() -> anyhow::Result<()> {
    with_app(
        |it| it,
        async |stack, folder| {
            for protocol in PROTOCOLS {
                let (gate, file) =
                    (folder.join(format!("{protocol:?}-")), folder.join(format!("{protocol:?}")));
                let client = stack.client("site", protocol)?;
                let path = format!("/events?gate={}&file={}", gate.display(), file.display());
                let mut connection = client.connect().await?;
                let mut events = connection.send(request(Method::GET, &path, empty())).await?.into_body();
                for number in 1..=3 {
                    read(&mut events, &format!("data: {number}\n\n")).await?;
                    fs::write(format!("{}{number}", gate.display()), "")?;
                }
                // Over HTTP/2, this resets one stream, and the connection stays.
                drop(events);
                if protocol != Protocol::Http2 {
                    drop(connection);
                    recorded(&file, "http.disconnect\n").await?;
                } else {
                    recorded(&file, "http.disconnect\n").await?;
                    let answer = connection.send(post("/digest", full("x"))).await?;
                    ensure!(answer.status() == 200, "{}", answer.status());
                }
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn an_app_learns_at_once_that_its_client_has_left() -> anyhow::Result<()> {
    with_app(
        |it| it,
        async |stack, folder| {
            for protocol in PROTOCOLS {
                let client = stack.client("site", protocol)?;
                let file = folder.join(format!("{protocol:?}"));
                let path = format!("/watch?file={}", file.display());
                // While it waits for the response.
                let leaving = send(&client, post(&path, full("abc")));
                recorded(&file, "received 3\ncomplete\n").await?;
                drop(leaving);
                recorded(&file, "received 3\ncomplete\nhttp.disconnect\nOSError\n").await?;
            }
            // While it sends its body.
            let file = folder.join("upload");
            let path = format!("/watch?file={}", file.display());
            let mut wire = Wire::connect(stack.http).await?;
            let head = "HTTP/1.1\r\nHost: site.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
            wire.write(format!("POST {path} {head}").as_bytes()).await?;
            recorded(&file, "received 3\n").await?;
            drop(wire);
            recorded(&file, "received 3\nhttp.disconnect\nOSError\n").await?;
            fs::remove_file(&file)?;
            let (more, body) = by_hand();
            let _leaving = send(&stack.client("site", Protocol::Http2)?, post(&path, body));
            more.send(Ok("abc".into())).await?;
            recorded(&file, "received 3\n").await?;
            more.send(Err(io::Error::other("it leaves"))).await?;
            recorded(&file, "received 3\nhttp.disconnect\nOSError\n").await?;
            ensure!(!stack.log().contains("ERROR"), "a client that left is called an error");
            Ok(())
        },
    )
    .await
}

/// Sends a request. Dropping the handle closes its connection.
fn send(client: &Client, request: Request<Body>) -> AbortOnDropHandle<()> {
    let client = client.clone();
    AbortOnDropHandle::new(TaskTracker::new().spawn(async move {
        let _it_leaves = client.send(request).await;
    }))
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_while_it_arrives() -> anyhow::Result<()> {
    with_app(
        |it| it.table("[limits]\nbody = \"100kB\""),
        async |stack, _| {
            for protocol in PROTOCOLS {
                let client = stack.client("site", protocol)?;
                client.send(post("/digest", Pattern::of(100_000).streamed())).await?.expect(200)?;
                client.send(post("/digest", Pattern::of(110_000).sized())).await?.expect(413)?;
                client.send(post("/digest", Pattern::of(110_000).streamed())).await?.expect(413)?;
                // The response may have begun.
                let cut = client.send(post("/echo", Pattern::of(110_000).streamed())).await;
                let status = cut.map_or(413, |it| it.status.as_u16());
                ensure!(status == 413, "{protocol}: a part of the response passes for the whole: {status}");
            }
            Ok(())
        },
    )
    .await
}

/// A client may take longer for its body than the app may take for its response.
#[tokio::test]
async fn a_slow_upload_does_not_exceed_the_time_of_the_request() -> anyhow::Result<()> {
    with_app(
        |it| it.table("[timeouts]\nrequest = \"500 ms\""),
        async |stack, _| {
            for protocol in PROTOCOLS {
                let (more, body) = by_hand();
                let client = stack.client("site", protocol)?;
                let answer = client.send(post("/digest", body));
                let upload = async {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_secs(2) {
                        more.send(Ok("abc".into())).await.context("the server gave up")?;
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    drop(more);
                    anyhow::Ok(())
                };
                let (answer, upload) = tokio::join!(answer, upload);
                upload?;
                answer?.expect(200)?;
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn uploads_survive_a_reload() -> anyhow::Result<()> {
    with_app(
        |it| it.workers(2),
        async |stack, _| {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = stack.client("site", protocol)?;
                let mut uploads = Vec::new();
                for _ in 0..8 {
                    let (more, body) = by_hand();
                    let mut response = client.open(post("/echo", body)).await?.into_body();
                    read(&mut response, "echo: ").await?;
                    uploads.push((more, response));
                }
                let before = stack.ready("site", 2).await?;
                // It takes until the old workers have ended.
                let reload = stack.command("reload", &["site"]);
                let finish = async {
                    let replaced = |app: &App| {
                        app.ready().len() == 2 && before.iter().all(|it| !app.ready().contains(it))
                    };
                    stack.until("site", "new workers serve", replaced).await?;
                    for (more, mut response) in uploads {
                        more.send(Ok("abc".into())).await?;
                        read(&mut response, "abc").await?;
                        drop(more);
                        ensure!(response.collect().await?.to_bytes().is_empty(), "more than was sent");
                    }
                    anyhow::Ok(())
                };
                let (reload, finish) = tokio::join!(reload, finish);
                finish?;
                reload?;
            }
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn trailers_follow_the_body() -> anyhow::Result<()> {
    with_app(
        |it| it,
        async |stack, _| {
            for protocol in PROTOCOLS {
                let mut asked = request(Method::GET, "/trailers", empty());
                asked.headers_mut().insert("te", "trailers".parse()?);
                let response = stack.client("site", protocol)?.open(asked).await?;
                let collected = response.into_body().collect().await?;
                let trailers = collected.trailers().cloned().unwrap_or_default();
                ensure!(trailers.get("x-checksum").is_some_and(|it| it == "42"), "{protocol}: {trailers:?}");
                ensure!(collected.to_bytes() == "body", "another body");
            }
            Ok(())
        },
    )
    .await
}
