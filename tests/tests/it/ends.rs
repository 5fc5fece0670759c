//! Cells of docs/failures.md that aren't tested in other files: what clients see when a process exits.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use rustix::process::Signal;
use tests::client::{Protocol, empty, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process::{self, Process};
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

use crate::gate::Gate;

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn a_killed_frontd_cuts_requests_in_flight_and_the_app_finishes_them_once() -> anyhow::Result<()> {
    wsgi(1, async |stack| {
        let worker = stack.ready("wsgi", 1).await?;
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let held = Gate::send(&client, stack.root(), Method::POST);
            ensure!(held.begun(1).await? == worker, "another worker");
            stack.kill(stack.daemon("frontd").await?)?;
            stack.all_ready().await?;
            held.open()?;
            // The worker has one thread, so this request is handled after the one in flight.
            client.get("/hello").await?.expect(200)?;
            ensure!(held.pids()? == worker, "{protocol}: begun again: {:?}", held.pids()?);
            ensure!(held.answer().await.is_err(), "{protocol}: answered by a frontd that was killed");

            let gate = stack.root().join(format!("{protocol:?}"));
            let path = format!("/in-pieces?gate={}", gate.display());
            let mut body = client.open(request(Method::GET, &path, empty())).await?.into_body();
            let first = body.frame().await.context("a first piece")??;
            ensure!(first.data_ref().is_some_and(|it| &it[..] == b"first\n"), "{first:?}");
            stack.kill(stack.daemon("frontd").await?)?;
            fs::write(gate, "")?;
            ensure!(body.collect().await.is_err(), "{protocol}: a cut response was accepted as complete");
            stack.all_ready().await?;
            client.get("/hello").await?.expect(200)?;
        }
        ensure!(stack.ready("wsgi", 1).await? == worker, "frontd took the worker with it");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopping_frontd_cuts_requests_that_exceed_its_drain() -> anyhow::Result<()> {
    wsgi(2, async |stack| {
        fs::write(stack.root().join("frontd.toml"), "drain = \"300ms\"\n")?;
        stack.kill(stack.daemon("frontd").await?)?;
        stack.all_ready().await?;
        let client = stack.client("wsgi", Protocol::Http1)?;
        let held = Gate::get(&client, stack.root());
        held.begun(1).await?;
        let old = Process::of(stack.daemon("frontd").await?).context("frontd has ended")?;
        process::signal(old.pid, Signal::TERM)?;
        stack.logged(&["drain took too long"]).await?;
        held.open()?;
        ensure!(held.answer().await.is_err(), "the client was answered");
        until("the old frontd has ended", async || Ok((!old.is_running()).then_some(()))).await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sighup_affects_no_request_and_no_process() -> anyhow::Result<()> {
    wsgi(2, async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http2)?, 4, Kind::Both);
        let workers = stack.ready("wsgi", 2).await?;
        for daemon in ["frontd", "emperord"] {
            let pid = stack.daemon(daemon).await?;
            load.flows(30).await?;
            process::signal(pid, Signal::HUP)?;
            load.flows(100).await?;
            ensure!(stack.daemon(daemon).await? == pid, "{daemon} was started again");
        }
        stack.logged(&["ignoring SIGHUP"]).await?;
        ensure!(stack.ready("wsgi", 2).await? == workers, "other workers");
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn stopping_emperord_affects_no_request_and_no_worker() -> anyhow::Result<()> {
    wsgi(2, async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 4, Kind::Both);
        let workers = stack.ready("wsgi", 2).await?;
        load.flows(30).await?;
        let emperord = stack.daemon("emperord").await?;
        process::signal(emperord, Signal::TERM)?;
        let next = async || {
            let status = stack.status().await.ok().filter(|it| it.emperord.pid != emperord);
            Ok(status.is_some_and(|it| it.app("wsgi").is_some_and(App::is_whole)).then_some(()))
        };
        until("the next emperord has adopted the workers", next).await?;
        load.flows(30).await?;
        ensure!(stack.ready("wsgi", 2).await? == workers, "other workers");
        load.finish().await?.all_right()
    })
    .await
}

/// Python doesn't handle SIGHUP, so the kernel kills the process.
#[tokio::test]
async fn sighup_kills_a_worker_like_a_crash() -> anyhow::Result<()> {
    wsgi(2, async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        let get = Gate::get(&client, stack.root());
        let first = get.begun(1).await?[0];
        process::signal(first, Signal::HUP)?;
        ensure!(get.begun(2).await?[1] != first, "begun again where it had ended");
        get.pass().await?;

        stack.ready("wsgi", 2).await?;
        let post = Gate::send(&client, stack.root(), Method::POST);
        let begun = post.begun(1).await?;
        process::signal(begun[0], Signal::HUP)?;
        let (pids, answer) = post.end().await?;
        ensure!(answer.status == 502 && pids == begun, "{answer:?} of {pids:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_worker_cuts_responses_it_had_started() -> anyhow::Result<()> {
    wsgi(1, async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let worker = stack.ready("wsgi", 1).await?;
            let path = format!("/in-pieces?gate={}", stack.root().join("never").display());
            let mut body = client.open(request(Method::GET, &path, empty())).await?.into_body();
            let first = body.frame().await.context("a first piece")??;
            ensure!(first.data_ref().is_some_and(|it| &it[..] == b"first\n"), "{first:?}");
            stack.kill(worker[0])?;
            ensure!(body.collect().await.is_err(), "{protocol}: a cut response was accepted as complete");
            let anew = |app: &App| app.is_whole() && app.ready() != worker;
            stack.until("wsgi", "the worker was replaced", anew).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_worker_that_exceeds_its_drain_is_killed_and_its_post_gets_502() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).table("[timeouts]\nstop = \"300ms\"");
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        let held = Gate::send(&client, stack.root(), Method::POST);
        let begun = held.begun(1).await?;
        stack.command("reload", &["wsgi"]).await?;
        let (pids, answer) = held.end().await?;
        ensure!(answer.status == 502 && pids == begun, "{answer:?} of {pids:?}");
        client.get("/hello").await?.expect(200).map(drop)
    })
    .await
}

/// For example because its terminal was closed.
#[tokio::test]
async fn a_stack_finishes_running_requests_on_sighup() -> anyhow::Result<()> {
    let mut stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?)])?;
    stack.all_ready().await?;
    let held = Gate::get(&stack.client("wsgi", Protocol::Http1)?, stack.root());
    let begun = held.begun(1).await?[0];
    stack.request_stop_with(Signal::HUP)?;
    stack.logged(&["frontd", "drain"]).await?;
    ensure!(held.pass().await? == begun, "another answered");
    stack.stop_with_clients().await
}

/// The kernel signals the daemons, which then exit gracefully.
#[tokio::test]
async fn a_stack_whose_up_is_killed_finishes_running_requests_and_leaves_nothing() -> anyhow::Result<()> {
    let mut stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?)])?;
    stack.all_ready().await?;
    let held = Gate::get(&stack.client("wsgi", Protocol::Http1)?, stack.root());
    let begun = held.begun(1).await?[0];
    let all = Process::descendants(stack.up());
    stack.kill_up()?;
    stack.logged(&["frontd", "drain"]).await?;
    ensure!(held.pass().await? == begun, "another answered");
    for process in all {
        ensure!(process::ends(process.pid, TIMEOUT), "{process:?} is still running");
    }
    Ok(())
}

/// docs/failures.md names a test for each of its cells.
#[test]
fn each_test_named_in_the_documentation_exists() -> anyhow::Result<()> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(tests.join("../docs/failures.md"))?;
    let named: Vec<_> = text.split("<!--").skip(1).filter_map(|it| it.split("-->").next()).collect();
    ensure!(named.len() > 20, "{} cells name their tests", named.len());
    for test in named.iter().flat_map(|it| it.split_whitespace()) {
        let (file, name) = test.split_once("::").with_context(|| format!("{test} is no test's name"))?;
        let source = fs::read_to_string(tests.join(format!("tests/it/{file}.rs")))?;
        ensure!(source.contains(&format!("async fn {name}()")), "there is no test {test}");
    }
    Ok(())
}

async fn wsgi(workers: u32, test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(workers)], async |stack| test(stack).await).await
}
