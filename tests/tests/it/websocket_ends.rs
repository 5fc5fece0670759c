//! What a WebSocket client sees when a process ends.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tests::client::Protocol;
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};
use tests::websocket::{Received, WebSocket};
use tokio::time::timeout;

/// Returns messages.
const APP: &str = "
async def app(scope, receive, send):
    if scope['type'] != 'websocket':
        raise NotImplementedError
    await receive()
    await send({'type': 'websocket.accept'})
    while (message := await receive())['type'] == 'websocket.receive':
        await send({**message, 'type': 'websocket.send'})
";
const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

fn vassal(folder: &Path) -> anyhow::Result<Vassal> {
    fs::write(folder.join("site.py"), APP)?;
    Ok(Vassal::new("chat", folder, "site.py:app").key("interface = \"asgi\""))
}

/// One WebSocket over each protocol.
struct Sockets(Vec<(Protocol, WebSocket)>);

impl Sockets {
    async fn open(stack: &Stack) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for protocol in PROTOCOLS {
            let client = stack.client("chat", protocol)?;
            all.push((protocol, WebSocket::open(&client, "/").await?));
        }
        let mut sockets = Self(all);
        sockets.work("hello").await?;
        Ok(sockets)
    }

    /// Checks that a message returns on each.
    async fn work(&mut self, text: &str) -> anyhow::Result<()> {
        for (protocol, socket) in &mut self.0 {
            socket.send_text(text).await?;
            let received =
                timeout(TIMEOUT, socket.receive()).await.with_context(|| protocol.to_string())??;
            ensure!(received == Received::Text(text.to_owned()), "{received:?} over {protocol}");
        }
        Ok(())
    }

    async fn are_closed_with(self, code: u16) -> anyhow::Result<()> {
        for (protocol, mut socket) in self.0 {
            let received =
                timeout(TIMEOUT, socket.receive()).await.with_context(|| protocol.to_string())??;
            ensure!(received == Received::Close(Some(code)), "{received:?} over {protocol}");
        }
        Ok(())
    }

    async fn are_cut(self) -> anyhow::Result<()> {
        for (protocol, mut socket) in self.0 {
            let received = timeout(TIMEOUT, socket.receive()).await.with_context(|| protocol.to_string())?;
            ensure!(received.is_err(), "{received:?} over {protocol}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_worker_that_ends_closes_its_websockets_with_1012() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        for signal in [Signal::KILL, Signal::TERM] {
            let worker = stack.ready("chat", 1).await?[0];
            let sockets = Sockets::open(stack).await?;
            process::signal(worker, signal)?;
            sockets.are_closed_with(1012).await.with_context(|| format!("{signal:?}"))?;
        }
        Ok(())
    })
    .await
}

/// emperord kills it, since it doesn't respond.
#[tokio::test]
async fn a_frozen_worker_is_killed_and_its_websockets_are_closed_with_1012() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        let mut sockets = Sockets::open(stack).await?;
        let worker = stack.ready("chat", 1).await?[0];
        process::signal(worker, Signal::STOP)?;
        process::signal(worker, Signal::CONT)?;
        sockets.work("after a moment").await?;
        process::signal(worker, Signal::STOP)?;
        sockets.are_closed_with(1012).await
    })
    .await
}

#[tokio::test]
async fn emperord_ends_no_websocket() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    stack::with([vassal(folder.path())?], async |stack| {
        stack.all_ready().await?;
        let mut sockets = Sockets::open(stack).await?;
        for signal in [Signal::KILL, Signal::TERM] {
            let emperord = stack.daemon("emperord").await?;
            process::signal(emperord, signal)?;
            until("the next emperord answers", async || {
                let status = stack.status().await;
                Ok(status.is_ok_and(|status| status.emperord.pid != emperord).then_some(()))
            })
            .await?;
            stack.all_ready().await?;
            sockets.work("still there").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopping_frontd_closes_websockets_with_1001_and_a_killed_one_cuts_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let vassals = [vassal(folder.path())?];
    let stack = Stack::start_with_files(Place::of_tests()?, vassals, &[("frontd.toml", "drain = \"3s\"\n")])?;
    stack.all_ready().await?;
    let sockets = Sockets::open(&stack).await?;
    let frontd = stack.daemon("frontd").await?;
    process::signal(frontd, Signal::TERM)?;
    sockets.are_closed_with(1001).await?;
    until("the next frontd runs alone", async || {
        Ok((!process::Process::descendants(stack.up()).iter().any(|it| it.pid == frontd)).then_some(()))
    })
    .await?;
    stack.all_ready().await?;
    let sockets = Sockets::open(&stack).await?;
    process::signal(stack.daemon("frontd").await?, Signal::KILL)?;
    sockets.are_cut().await?;
    stack.all_ready().await?;
    stack.stop_with_clients().await
}
