//! What an idle connection costs the front server in memory.

use anyhow::{Context as _, ensure};
use http::Method;
use tests::client::{Answer, Client, Protocol, empty, request};
use tests::connection::Connection;

use super::usage;
use crate::metric::{Metric, Sample};
use crate::site::HOST;
use crate::stack::Stack;

/// Opened before anything is counted: with them come the pages that the first connections touch once.
const FIRST: usize = 100;
/// With the first ones, they fit into the 1024 descriptors that a process has by default.
const COUNTED: u16 = 600;
const PATH: &str = "/static/1k.bin";

/// Opens connections that get one response each and are kept, on a stack that nobody else uses. The kernel's own
/// memory for sockets isn't counted.
pub(crate) async fn run(stack: &Stack, protocol: Protocol) -> anyhow::Result<Sample> {
    let address = if protocol == Protocol::Plain { stack.http } else { stack.https };
    let client = Client::new(&stack.certificate, HOST, address, protocol)?;
    let mut open = Vec::new();
    idle(&client, &mut open, FIRST).await?;
    let before = memory(stack)?;
    idle(&client, &mut open, COUNTED.into()).await?;
    let after = memory(stack)?;
    let closed = open.iter().filter(|it| it.is_closed()).count();
    ensure!(closed == 0, "the server closed {closed} of {} idle connections", open.len());
    Ok(Sample::from([(Metric::ConnectionMemory, (after - before) / f64::from(COUNTED))]))
}

async fn idle(client: &Client, open: &mut Vec<Connection>, more: usize) -> anyhow::Result<()> {
    for _ in 0..more {
        let mut connection = client.connect().await?;
        let response =
            connection.send(request(Method::GET, PATH, empty())).await.context("send a request")?;
        Answer::read(response).await?.expect(200)?;
        open.push(connection);
    }
    Ok(())
}

fn memory(stack: &Stack) -> anyhow::Result<f64> {
    usage::memory(&stack.processes().front)
}
