//! Responses that nobody reads any more, in threads that can't be interrupted: the worker keeps serving while
//! it has another thread.

use std::fs;

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::process;
use tests::stack::Stack;
use tests::status::App;
use tests::wait::TIMEOUT;

use crate::idle::{Stalled, stalling};

#[tokio::test]
async fn a_disconnected_client_costs_one_thread_but_no_worker_until_all_are_held() -> anyhow::Result<()> {
    stalling("'2s'", 1, 2, async |stack| {
        let pid = stack.ready("slow", 1).await?[0];
        let client = stack.client("slow", Protocol::Http1)?;
        let gate = stack.root().join("gate");
        let mut stream =
            Stalled::open(&client, stack, &format!("/stalled-ticks?gate={}&", gate.display())).await?;

        let _left = Stalled::open(&client, stack, "/stalled-held").await?.leave();
        held(stack, "its client has gone").await?;
        serves_on(stack, pid).await?;
        fs::write(gate, "")?;
        ensure!(!stream.is_cut().await, "its neighbour was cut");
        client.get("/hello").await?.expect(200)?;
        serves_on(stack, pid).await?;

        let _left = Stalled::open(&client, stack, "/stalled-held").await?.leave();
        replaced_without_loss(stack, &client, pid).await
    })
    .await
}

#[tokio::test]
async fn a_stalled_response_costs_one_thread_but_no_worker_until_all_are_held() -> anyhow::Result<()> {
    stalling("'2s'", 1, 2, async |stack| {
        let pid = stack.ready("slow", 1).await?[0];
        let client = stack.client("slow", Protocol::Http2)?;
        let mut quiet = Stalled::open(&client, stack, "/stalled-held").await?;
        ensure!(quiet.is_cut().await, "a stalled body was accepted as complete");
        held(stack, "it sent nothing for too long").await?;
        client.get("/hello").await?.expect(200)?;
        serves_on(stack, pid).await?;

        let mut quiet = Stalled::open(&client, stack, "/stalled-held").await?;
        ensure!(quiet.is_cut().await, "a stalled body was accepted as complete");
        replaced_without_loss(stack, &client, pid).await
    })
    .await
}

/// Even without an idle limit, disconnected clients cost no more than with one.
#[tokio::test]
async fn without_an_idle_limit_a_disconnected_client_costs_one_thread() -> anyhow::Result<()> {
    stalling("0", 1, 2, async |stack| {
        let pid = stack.ready("slow", 1).await?[0];
        let client = stack.client("slow", Protocol::Plain)?;
        let _left = Stalled::open(&client, stack, "/stalled-held").await?.leave();
        held(stack, "its client has gone").await?;
        client.get("/hello").await?.expect(200)?;
        serves_on(stack, pid).await
    })
    .await
}

#[tokio::test]
async fn a_worker_with_one_thread_is_replaced_once_it_is_held() -> anyhow::Result<()> {
    stalling("'1s'", 1, 1, async |stack| {
        let pid = stack.ready("slow", 1).await?[0];
        let client = stack.client("slow", Protocol::Http1)?;
        let _left = Stalled::open(&client, stack, "/stalled-held").await?.leave();
        replaced_without_loss(stack, &client, pid).await
    })
    .await
}

/// A thread is lost, and the log tells why and where.
async fn held(stack: &Stack, why: &str) -> anyhow::Result<()> {
    stack.logged(&["WARN slow-1", "cannot be interrupted", why, "path=/stalled-held"]).await?;
    stack.logged(&["slow.py", "in stalled_held"]).await?;
    Ok(())
}

async fn serves_on(stack: &Stack, pid: u32) -> anyhow::Result<()> {
    ensure!(stack.ready("slow", 1).await? == [pid], "the worker was replaced");
    for words in ["worker is drained", "ERROR"] {
        ensure!(!stack.log().contains(words), "{words:?} for the sake of one thread");
    }
    Ok(())
}

/// Requests wait meanwhile. The new worker is ready before the old one is drained.
async fn replaced_without_loss(stack: &Stack, client: &Client, pid: u32) -> anyhow::Result<()> {
    let load = Load::start(client, 3, Kind::Both);
    stack.logged(&["worker is drained", "recycled: each of its threads is blocked"]).await?;
    let replaced = |app: &App| app.is_whole() && !app.ready().contains(&pid);
    stack.until("slow", "another has taken its place", replaced).await?;
    ensure!(process::ends(pid, TIMEOUT), "{pid} is still running");
    load.flows(30).await?;
    load.finish().await?.all_right()
}
