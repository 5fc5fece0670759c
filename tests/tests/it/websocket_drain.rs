//! WebSockets across reloads, which they outlive until `timeouts.websocket_drain` is over, and across restarts of frontd.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure};
use rustix::process::Signal;
use tests::client::Protocol;
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};
use tests::websocket::{Received, WebSocket};
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

/// The pid of the worker at the other end.
async fn pid_of(socket: &mut WebSocket) -> anyhow::Result<String> {
    socket.send_text("?").await?;
    match timeout(TIMEOUT, socket.receive()).await?? {
        Received::Text(pid) => Ok(pid),
        other => bail!("{other:?}"),
    }
}

async fn open(stack: &Stack) -> anyhow::Result<WebSocket> {
    Ok(WebSocket::open(&stack.client("chat", Protocol::Plain)?, "/ws").await?)
}

async fn is_closed_with(code: u16, socket: &mut WebSocket) -> anyhow::Result<()> {
    let received = timeout(TIMEOUT, socket.receive()).await??;
    ensure!(received == Received::Close(Some(code)), "{received:?}");
    Ok(())
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
        let mut socket = open(stack).await?;
        let old = pid_of(&mut socket).await?;
        let mut others = Vec::new();
        for reloads in 1..=2 {
            let mut another = open(stack).await?;
            let pid = pid_of(&mut another).await?;
            let sockets = |app: &App| app.workers.iter().map(|it| it.sockets).sum::<u32>();
            stack.until("chat", "its sockets are known", |app| sockets(app) == reloads + 1).await?;
            let told = stack.command("reload", &["chat"]).await?;
            let workers = if reloads == 1 { "in 1 old worker," } else { "in 2 old workers," };
            let expected = format!("chat: {} WebSockets still open {workers} for up to 59m", reloads + 1);
            ensure!(told.contains(&expected), "{told}");
            ensure!(pid_of(&mut socket).await? == old, "it was moved");
            ensure!(pid_of(&mut another).await? == pid, "it was moved");
            let served = stack.client("chat", Protocol::Http1)?.get("/").await?.expect(200)?.text();
            ensure!(served != old && served != pid, "the old worker {served} got a request");
            others.push(another);
        }
        let status = stack.command("status", &[]).await?;
        ensure!(status.contains("draining, 2 WebSockets open, up to 59m"), "{status}");

        // A shorter limit applies to workers that drain already.
        stack.put(&vassal(folder.path())?.table("[timeouts]\nwebsocket_drain = \"0s\""))?;
        is_closed_with(1012, &mut socket).await?;
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
        let mut socket = open(stack).await?;
        pid_of(&mut socket).await?;
        stack.remove("chat")?;
        is_closed_with(1012, &mut socket).await?;
        stack.logged(&["ended with 1012"]).await?;
        Ok(())
    })
    .await
}

/// Its `drain` is too long for the test.
#[tokio::test]
async fn a_restart_of_frontd_closes_websockets_at_once_and_their_clients_can_return() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let files = [("frontd.toml", "drain = \"10m\"\n")];
    let stack = Stack::start_with_files(Place::of_tests()?, [vassal(folder.path())?], &files)?;
    stack.all_ready().await?;
    let mut sockets = Vec::new();
    for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2].repeat(7) {
        let client = stack.client("chat", protocol)?;
        let mut socket = WebSocket::open(&client, "/ws").await?;
        let worker = pid_of(&mut socket).await?;
        sockets.push((client, socket, worker));
    }
    let old = stack.daemon("frontd").await?;
    process::signal(old, Signal::TERM)?;
    for (client, socket, worker) in &mut sockets {
        is_closed_with(1001, socket).await?;
        socket.send_close(1001).await?;
        // The old frontd serves connections that the kernel has queued for it.
        let again = until("another WebSocket stays open", async || {
            let mut again = WebSocket::open(client, "/ws").await?;
            Ok(pid_of(&mut again).await.ok())
        });
        ensure!(again.await? == *worker, "the worker was restarted");
    }
    ensure!(process::ends(old, TIMEOUT), "frontd waits for the end of its drain");
    stack.logged(&["ended with 1001"]).await?;
    drop(sockets);
    let none = |app: &App| app.workers.iter().all(|it| it.sockets == 0);
    stack.until("chat", "no WebSocket is open", none).await?;
    stack.stop_with_clients().await
}
