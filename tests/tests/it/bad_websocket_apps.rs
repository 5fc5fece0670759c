//! ASGI apps whose WebSockets violate the rules: what the client gets, the log, and that others aren't affected.

use std::fs;

use anyhow::{Context as _, bail, ensure};
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::Stack;
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::TIMEOUT;
use tests::websocket::{OpenError, Received, WebSocket};
use tokio::time::timeout;

use crate::misbehaving::{self, recorded};

/// Path, status and log text of handshakes that fail.
const REFUSED: [(&str, u16, &str); 19] = [
    ("/send-first", 500, "the app sent websocket.send before it has accepted or refused the WebSocket"),
    ("/body-first", 500, "the app sent websocket.http.response.body before it has accepted or refused"),
    ("/unknown-message", 500, "\"websocket.begin\", which isn't a message of a WebSocket"),
    ("/message-of-http", 500, "\"http.response.start\", which isn't a message of a WebSocket"),
    ("/no-message", 500, "TypeError: 'NoneType' object is not subscriptable"),
    ("/message-without-type", 500, "KeyError: 'type'"),
    ("/accept-header-text", 500, "a message has str where it needs bytes"),
    ("/accept-header-injection", 500, "the value of header \"x-bad\" has an invalid character"),
    ("/subprotocol-number", 500, "TypeError: 'int' object is not an instance of 'str'"),
    ("/subprotocol-injection", 500, "header \"sec-websocket-protocol\" has an invalid character"),
    ("/denial-without-status", 500, "KeyError: 'status'"),
    ("/denial-status-101", 500, "status \"101\" is not three digits from 200 to 999"),
    (
        "/denies-twice",
        500,
        "the app sent websocket.http.response.start although it has refused the WebSocket",
    ),
    ("/denies-halfway", 500, "method=GET path=/denies-halfway"),
    ("/denies-without-body", 500, "method=GET path=/denies-without-body"),
    ("/never-accepts", 500, "the app returned without accepting or closing a WebSocket"),
    ("/raises-first", 500, "ValueError: raised before accept"),
    // Their responses are complete.
    ("/accepts-after-refusal", 403, "the app sent websocket.accept although it has refused the WebSocket"),
    ("/accepts-after-denial", 401, "method=GET path=/accepts-after-denial"),
];

/// Path, code and log text of WebSockets that fail once they are open, or after their end.
const CLOSED: [(&str, u16, &str); 18] = [
    ("/accept-twice", 1011, "the app sent websocket.accept although it has accepted the WebSocket"),
    ("/neither", 1011, "a `websocket.send` has neither `text` nor `bytes`"),
    ("/both", 1011, "a `websocket.send` has both `text` and `bytes`"),
    ("/text-number", 1011, "the text of a message isn't a string"),
    ("/text-bytes", 1011, "method=GET path=/text-bytes"),
    ("/text-surrogate", 1011, "UnicodeEncodeError: 'utf-8' codec can't encode"),
    ("/bytes-text", 1011, "method=GET path=/bytes-text"),
    ("/code-text", 1011, "TypeError: 'str' object cannot be interpreted as an integer"),
    ("/code-1006", 1011, "a WebSocket can't be closed with the code 1006"),
    ("/reason-number", 1011, "method=GET path=/reason-number"),
    ("/reason-long", 1011, "the reason of a close has 124 bytes, more than 123"),
    ("/denies-after-accept", 1011, "http.response.start although it has accepted the WebSocket"),
    ("/raises-when-open", 1011, "ValueError: raised after accept"),
    ("/exits", 1011, "SystemExit: 3"),
    ("/cancels-itself", 1011, "CancelledError"),
    ("/sends-after-close", 4000, "the app sent websocket.send although it has closed the WebSocket"),
    ("/accepts-after-close", 4000, "the app sent websocket.accept although it has closed the WebSocket"),
    ("/raises-after-close", 4000, "ValueError: raised after close"),
];

/// Path and code of what is right.
const RIGHT: [(&str, u16); 2] = [("/returns-when-open", 1000), ("/closes-twice", 4000)];

#[tokio::test]
async fn an_app_that_violates_asgi_ends_only_its_own_websocket() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let worker = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        let mut neighbour = open(stack, "/echo").await?;
        for (path, status, logged) in REFUSED {
            let refused = refusal(stack, path).await.context(path)?;
            ensure!(refused == status, "{path}: {status} expected, not {refused}");
            stack.logged(&[logged]).await.context(path)?;
            pid(&mut neighbour).await.context(path)?;
        }
        for (path, code, logged) in CLOSED {
            let closed = closed(open(stack, path).await.context(path)?).await.context(path)?;
            ensure!(closed == code, "{path}: {code} expected, not {closed}");
            stack.logged(&[logged]).await.context(path)?;
            pid(&mut neighbour).await.context(path)?;
        }
        let record = stack.root().join("record");
        for (path, code) in RIGHT {
            let path = format!("{path}?record={}", record.display());
            let closed = closed(open(stack, &path).await?).await?;
            ensure!(closed == code, "{path}: {code} expected, not {closed}");
        }
        recorded(&record, "closed twice").await?;
        for (path, _) in RIGHT {
            ensure!(!stack.log().contains(&format!("path={path}")), "{path} is no failure");
        }
        only_open(stack, 1).await?;
        ensure!(pid(&mut neighbour).await? == worker[0].to_string(), "another worker");
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(stack.ready("bad", 1).await? == worker, "the worker was restarted");
        Ok(())
    })
    .await
}

/// What it doesn't take stays with its client.
#[tokio::test]
async fn an_app_that_never_receives_still_sends_and_learns_that_its_client_has_gone() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let load = Load::start(client, 2, Kind::Both);
        let record = stack.root().join("record");
        let path = format!("/never-receives?record={}", record.display());
        let mut socket = open(stack, &path).await?;
        recorded(&record, "accepted").await?;
        for _ in 0..25 {
            socket.send_text(&"x".repeat(16 * 1024)).await?;
        }
        for _ in 0..10 {
            ensure!(text(&mut socket).await? == "tick", "another message");
        }
        drop(socket);
        recorded(&record, "BrokenPipeError").await?;
        only_open(stack, 0).await?;
        ensure!(!stack.log().contains("BrokenPipeError"), "a client that leaves is no failure of the app");
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_gets_a_504() -> anyhow::Result<()> {
    bad(2, "request = \"300ms\"\n", async |stack, client| {
        let before = stack.ready("bad", 2).await?;
        let load = Load::start(client, 2, Kind::Both);
        let mut neighbour = open(stack, "/echo").await?;
        let status = refusal(stack, "/waits").await?;
        ensure!(status == 504, "{status}");
        stack.logged(&["exceeded its limit of 300ms", "path=/waits"]).await?;
        stack.logged(&["the request that exceeded its limit has ended", "path=/waits"]).await?;
        ensure!(stack.ready("bad", 2).await? == before, "a worker was restarted");
        pid(&mut neighbour).await.context("an open WebSocket has no limit")?;

        let (record, gate) = (stack.root().join("record"), stack.root().join("gate"));
        let path = format!("/swallows-cancellation?record={}&gate={}", record.display(), gate.display());
        let status = refusal(stack, &path).await?;
        ensure!(status == 504, "{status}");
        let begun = recorded(&record, "cancelled").await?;
        let begun = begun.lines().find_map(|line| line.strip_prefix("begun ")).context("a pid")?;
        let stuck: u32 = begun.parse()?;
        stack.logged(&["a request does not end", "/swallows-cancellation"]).await?;
        let replaced = |app: &App| app.is_whole() && !app.ready().contains(&stuck);
        stack.until("bad", "the worker is replaced", replaced).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn websockets_of_other_workers_and_new_ones_continue_while_an_app_blocks_its_loop() -> anyhow::Result<()>
{
    bad(2, "", async |stack, client| {
        stack.ready("bad", 2).await?;
        let (record, gate) = (stack.root().join("record"), stack.root().join("gate"));
        let path = format!("/blocks?record={}&gate={}", record.display(), gate.display());
        let mut blocked = open(stack, &path).await?;
        let blocked_pid = pid(&mut blocked).await?;
        // The worker with the fewest gets it.
        let mut neighbour = open(stack, "/echo").await?;
        let neighbours_pid = pid(&mut neighbour).await?;
        ensure!(neighbours_pid != blocked_pid, "both are in one worker");
        let load = Load::start(client, 3, Kind::Both);
        load.flows(30).await?;
        blocked.send_text("block").await?;
        recorded(&record, "begun").await?;
        stack.logged(&["event loop blocked for"]).await?;
        stack.logged(&["bad_sockets.py", "in blocks"]).await?;
        load.flows(100).await?;
        for _ in 0..5 {
            ensure!(pid(&mut neighbour).await? == neighbours_pid, "it was moved");
            let mut new = open(stack, "/echo").await?;
            ensure!(pid(&mut new).await? == neighbours_pid, "a handshake waited for the blocked loop");
        }
        fs::write(&gate, "")?;
        ensure!(text(&mut blocked).await? == "released", "another message");
        stack.logged(&["the event loop responds again"]).await?;
        load.finish().await?.all_right()
    })
    .await
}

async fn open(stack: &Stack, path: &str) -> anyhow::Result<WebSocket> {
    Ok(WebSocket::open(&stack.client("bad", Protocol::Plain)?, path).await?)
}

/// The status of the response that refuses a handshake.
async fn refusal(stack: &Stack, path: &str) -> anyhow::Result<u16> {
    match WebSocket::open(&stack.client("bad", Protocol::Plain)?, path).await {
        Ok(_) => bail!("{path} was accepted"),
        Err(OpenError::Refused { status, .. }) => Ok(status),
        Err(error) => Err(error.into()),
    }
}

/// The next message, a text.
async fn text(socket: &mut WebSocket) -> anyhow::Result<String> {
    match timeout(TIMEOUT, socket.receive()).await?? {
        Received::Text(text) => Ok(text),
        other => bail!("a text expected, not {other:?}"),
    }
}

/// The code that the server closes it with, after any messages.
async fn closed(mut socket: WebSocket) -> anyhow::Result<u16> {
    loop {
        if let Received::Close(code) = timeout(TIMEOUT, socket.receive()).await?? {
            return code.context("a code");
        }
    }
}

/// Has `/echo` answer with its worker's pid.
async fn pid(socket: &mut WebSocket) -> anyhow::Result<String> {
    socket.send_text("?").await?;
    text(socket).await
}

/// Waits until that many WebSockets are open.
async fn only_open(stack: &Stack, sockets: u32) -> anyhow::Result<()> {
    let open = |app: &App| app.workers.iter().map(|it| it.sockets).sum::<u32>() == sockets;
    stack.until("bad", &format!("{sockets} WebSockets are open"), open).await.map(drop)
}

async fn bad(
    workers: u32,
    timeouts: &str,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    misbehaving::serve(Vassal::bad_sockets(&Place::of_tests()?).workers(workers), timeouts, test).await
}
