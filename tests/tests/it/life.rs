//! Starts and stops of the stack.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

use crate::gate::Gate;

/// Every test checks that its stack leaves nothing behind. This one stops it while requests are running.
#[tokio::test]
async fn a_stopping_stack_finishes_running_requests() -> anyhow::Result<()> {
    let mut stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?).workers(2)])?;
    stack.all_ready().await?;
    let client = stack.client("wsgi", Protocol::Http1)?;
    let held = Gate::get(&client, stack.root());
    let begun = held.begun(1).await?[0];
    stack.request_stop()?;
    stack.logged(&["frontd", "drain"]).await?;
    let notices = stack.root().join("run/notify.sock");
    tokio::task::spawn_blocking(move || fill(&notices)).await?.context("tell `imperium up` while it ends")?;
    ensure!(held.pass().await? == begun, "another answered");
    stack.stop_with_clients().await
}

/// Sends more notifications than the kernel queues for a socket that isn't read.
fn fill(notices: &Path) -> anyhow::Result<()> {
    let limit: usize = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen")?.trim().parse()?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    for _ in 0..limit + 2 {
        socket.send_to(b"READY=1", notices)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_told_twice_to_stop_is_killed_and_leaves_nothing() -> anyhow::Result<()> {
    let mut stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?).workers(2)])?;
    stack.all_ready().await?;
    let held = Gate::get(&stack.client("wsgi", Protocol::Http1)?, stack.root());
    held.begun(1).await?;
    stack.request_stop()?;
    stack.logged(&["frontd", "drain"]).await?;
    // Signals that come at once are one.
    let is_forced = async || {
        stack.request_stop()?;
        Ok(stack.log().contains("killing everything").then_some(()))
    };
    until("the stack kills everything", is_forced).await?;
    ensure!(held.answer().await.is_err(), "nobody is there to answer");
    stack.stop_with_clients().await
}

#[tokio::test]
async fn a_stack_stops_under_load() -> anyhow::Result<()> {
    let stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?).workers(2)])?;
    stack.all_ready().await?;
    let load = Load::start(&stack.client("wsgi", Protocol::Http2)?, 4, Kind::Gets);
    load.flows(100).await?;
    tokio::task::spawn_blocking(|| stack.stop()).await??;
    let ledger = load.finish().await?;
    ensure!(ledger.wrong == 0, "an answer of another: {ledger:#?}");
    Ok(())
}

#[tokio::test]
async fn leftovers_of_a_killed_run_do_not_affect_the_next() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let workers = stack.ready("wsgi", 2).await?;
        // All at once, so that no process can notify another.
        for pid in [stack.daemon("emperord").await?, stack.daemon("frontd").await?].iter().chain(&workers) {
            process::signal(*pid, Signal::KILL)?;
        }
        let new =
            |app: &tests::status::App| app.is_whole() && app.ready().iter().all(|pid| !workers.contains(pid));
        stack.until("wsgi", "all is started again", new).await?;
        let client = stack.client("wsgi", Protocol::Http1)?;
        client.get("/hello").await?.expect(200).context("after all were killed")?;
        Ok(())
    })
    .await
}
