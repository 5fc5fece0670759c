//! The effect of signals on a worker, and of its exit on the app.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use rustix::process::Signal;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

use crate::gate::Gate;

#[tokio::test]
async fn sigterm_drains_a_worker_under_load() -> anyhow::Result<()> {
    signalled(2, &[], async |stack, client, record| {
        let load = Load::start(client, 4, Kind::Both);
        for _ in 0..3 {
            load.flows(30).await?;
            let held = Gate::get(client, stack.root());
            let pid = held.begun(1).await?[0];
            process::signal(pid, Signal::TERM)?;
            stack.logged(&["draining", "busy=1"]).await?;
            let replaced = |app: &App| app.ready().len() == 2 && !app.ready().contains(&pid);
            stack.until("signalled", "another has taken its place", replaced).await?;
            ensure!(held.pass().await? == pid, "what it had begun was answered by another");
            ensure!(process::ends(pid, TIMEOUT), "{pid} is still running");
            recorded(record, &format!("atexit {pid}")).await?;
        }
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(!stack.log().contains("exited unexpectedly"), "an orderly end is called a crash");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sigint_is_handled_by_python() -> anyhow::Result<()> {
    signalled(2, &[], async |stack, client, record| {
        ensure!(client.get("/handlers").await?.expect(200)?.text() == "True True\n", "handlers were touched");
        let load = Load::start(client, 2, Kind::Gets);
        let pid = stack.ready("signalled", 2).await?[1];
        // Inside the app, it is a KeyboardInterrupt. Otherwise, it ends the worker normally.
        process::signal(pid, Signal::INT)?;
        until("it ends, or fails the request that it interrupts", async || {
            let interrupted = stack.log().contains("KeyboardInterrupt");
            let ended = fs::read_to_string(record).unwrap_or_default().contains(&format!("atexit {pid}"));
            Ok((interrupted || ended).then_some(()))
        })
        .await?;
        stack.ready("signalled", 2).await?;
        load.flows(30).await?;
        let ledger = load.finish().await?;
        ensure!(ledger.right + ledger.status(500) == ledger.sent && ledger.status(500) <= 1, "{ledger:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_apps_own_sigterm_handler_is_kept() -> anyhow::Result<()> {
    signalled(1, &["HANDLE_SIGTERM"], async |stack, client, record| {
        let load = Load::start(client, 2, Kind::Both);
        let pid = stack.ready("signalled", 1).await?[0];
        process::signal(pid, Signal::TERM)?;
        recorded(record, &format!("handled {pid}")).await?;
        load.flows(30).await?;
        ensure!(stack.ready("signalled", 1).await? == [pid], "the worker ended all the same");

        // It still drains when emperord tells it to.
        stack.command("reload", &["signalled"]).await?;
        recorded(record, &format!("atexit {pid}")).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn atexit_runs_at_every_normal_exit() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("record");
    let stack = Stack::start(Place::of_tests()?, [vassal(3, &record)?])?;
    stack.all_ready().await?;
    let three = stack.ready("signalled", 3).await?;
    stack.command("scale", &["signalled", "2"]).await?;
    let two = stack.ready("signalled", 2).await?;
    for pid in three.iter().filter(|pid| !two.contains(pid)) {
        recorded(&record, &format!("atexit {pid}")).await?;
    }
    stack.touch("signalled")?;
    let anew = |app: &App| app.is_whole() && app.ready().iter().all(|pid| !two.contains(pid));
    let last = stack.until("signalled", "all workers are new", anew).await?.ready();
    for pid in two {
        recorded(&record, &format!("atexit {pid}")).await?;
    }
    stack.stop_with_clients().await?;
    for pid in last {
        recorded(&record, &format!("atexit {pid}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_in_c_leaves_the_python_stack_in_the_log() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).named("bad").app("bad:application").workers(2);
    stack::with([vassal], async |stack| {
        let client = stack.client("bad", Protocol::Http1)?;
        for (path, words) in [
            ("/segfault", ["Fatal Python error: Segmentation fault", "in segfault"]),
            ("/abort", ["Fatal Python error: Aborted", "in abort"]),
        ] {
            client.post(path, "text/plain", "").await?.expect(502)?;
            for word in words {
                stack.logged(&[word]).await?;
            }
            stack.ready("bad", 2).await?;
        }
        Ok(())
    })
    .await
}

async fn recorded(record: &Path, text: &str) -> anyhow::Result<()> {
    until(&format!("the app records {text:?}"), async || {
        Ok(fs::read_to_string(record).unwrap_or_default().lines().any(|line| line == text).then_some(()))
    })
    .await
}

fn vassal(workers: u32, record: &Path) -> anyhow::Result<Vassal> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).named("signalled").app("signalled:application");
    Ok(vassal.workers(workers).env("RECORD", &record.display().to_string()))
}

async fn signalled(
    workers: u32,
    variables: &[&str],
    test: impl AsyncFnOnce(&Stack, &Client, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("record");
    let vassal = vassal(workers, &record)?;
    let vassal = variables.iter().fold(vassal, |vassal, name| vassal.env(name, "yes"));
    stack::with([vassal], async |stack| {
        let client = stack.client("signalled", Protocol::Http1)?;
        test(stack, &client, &record).await
    })
    .await
}
