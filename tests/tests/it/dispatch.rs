//! The choice of a worker for a request.

use std::collections::BTreeSet;

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack;
use tests::vassal::Vassal;
use tests::visit;
use tokio::task::JoinSet;

use crate::gate::Gate;

#[tokio::test]
async fn a_fourth_request_goes_to_the_first_free_worker_of_three() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(3)], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let held = [(); 3].map(|()| Gate::get(&client, stack.root()));
        let mut pids = Vec::new();
        for gate in &held {
            pids.extend(gate.begun(1).await?);
        }
        ensure!(BTreeSet::from_iter(&pids).len() == 3, "three at once by {pids:?}");
        let fourth = Gate::get(&client, stack.root());
        stack.waiting("wsgi", 1).await?;
        ensure!(fourth.pids()?.is_empty(), "a fourth began while three were held");

        let [first, second, third] = held;
        ensure!(second.pass().await? == pids[1], "the second was answered by another");
        ensure!(fourth.begun(1).await? == [pids[1]], "the fourth did not go to the one that was free");
        for gate in [first, third, fourth] {
            gate.pass().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn three_slow_requests_run_on_three_workers() -> anyhow::Result<()> {
    stack::with([Vassal::flask(&Place::of_tests()?).workers(3)], async |stack| {
        let client = stack.client("flask", Protocol::Http1)?;
        let asked = [(); 3].map(|()| visit::pid_after(&client, 1.0));
        let pids: BTreeSet<u32> = futures_util::future::try_join_all(asked).await?.into_iter().collect();
        ensure!(pids.len() == 3, "three at once by {pids:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_waits_behind_a_busy_worker() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("wsgi", protocol)?;
            let held = Gate::get(&client, stack.root());
            let busy = held.begun(1).await?[0];
            let others = quick(&client, 8, 40).await?;
            ensure!(others.len() == 1 && !others.contains(&busy), "{busy} was busy, {others:?} answered");
            ensure!(held.pass().await? == busy, "the held request moved");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_long_wait_times_out() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).table("[queue]\nsize = 1\ntimeout = \"1s\"");
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let held = Gate::get(&client, stack.root());
        held.begun(1).await?;
        let waits = Gate::get(&client, stack.root());
        stack.waiting("wsgi", 1).await?;
        let refused = client.get("/hello").await?.expect(503)?;
        ensure!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
        ensure!(!held.is_answered(), "the held request was answered");

        let late = waits.answer().await?.expect(503)?;
        ensure!(!late.header("retry-after").is_empty(), "{:?}", late.headers);
        held.pass().await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

/// Quick requests over several connections. Returns the processes that handled them.
async fn quick(client: &Client, connections: usize, each: usize) -> anyhow::Result<BTreeSet<u32>> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let client = client.clone();
        tasks.spawn(async move {
            let mut pids = BTreeSet::new();
            for _ in 0..each {
                pids.insert(visit::pid(&client).await?);
            }
            anyhow::Ok(pids)
        });
    }
    let mut pids = BTreeSet::new();
    while let Some(answered) = tasks.join_next().await {
        pids.extend(answered??);
    }
    Ok(pids)
}
