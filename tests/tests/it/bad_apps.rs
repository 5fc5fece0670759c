//! Apps that violate the rules: the responses, the log, and that other requests aren't affected.

use std::fs;

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tests::client::{Answer, Client, Protocol, empty, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

use crate::gate::Gate;

/// Path, status and log text. Each failure affects only its own request.
const CONTAINED: [(&str, u16, &str); 26] = [
    ("/no-start", 500, "without calling start_response"),
    ("/start-twice", 500, "start_response was called twice without exc_info"),
    ("/status?value=OK", 500, "status \"OK\" is not three digits"),
    ("/status", 500, "status \"\" is not three digits"),
    ("/status?value=99+Low", 500, "status \"99 Low\" is not"),
    ("/status?value=101+Switching", 500, "status \"101 Switching\" is not"),
    ("/status?value=1000+Long", 500, "status \"1000 Long\" is not"),
    ("/status-injection", 500, "status \"200 OK\\r\\nX-Smuggled: two\" is not"),
    ("/name-injection", 500, "is invalid"),
    ("/value-injection", 500, "has an invalid character"),
    ("/newline", 500, "has an invalid character"),
    ("/nul", 500, "has an invalid character"),
    ("/no-name", 500, "header name \"\" is invalid"),
    ("/huge-head", 500, "the headers have more than"),
    ("/number-as-status", 500, "TypeError"),
    ("/number-as-value", 500, "is not a tuple of two strings"),
    ("/tuple-of-headers", 500, "TypeError"),
    ("/triple-header", 500, "is not a tuple of two strings"),
    ("/nothing", 500, "'NoneType' object is not iterable"),
    ("/number", 500, "'int' object is not iterable"),
    ("/numbers", 500, "a part of the response body is int, not bytes"),
    ("/text-body", 500, "a part of the response body is str, not bytes"),
    ("/fails-first", 500, "ValueError: raised by the first piece"),
    ("/recursion", 500, "RecursionError"),
    ("/sys-exit", 500, "SystemExit: an app does not end its worker"),
    ("/keyboard-interrupt", 500, "KeyboardInterrupt"),
];

#[tokio::test]
async fn an_app_that_violates_wsgi_fails_only_its_own_request() -> anyhow::Result<()> {
    bad(1, 2, async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("bad", protocol)?;
            for (path, status, logged) in CONTAINED {
                let answer = client.get(path).await.context(path)?;
                ensure!(answer.status == status, "{path}: {status} expected, not {}", answer.status);
                ensure!(answer.headers.get("x-smuggled").is_none(), "{path}: a header was smuggled");
                let text = answer.text();
                ensure!(!text.contains("never") && !text.contains("Error:"), "{path} tells {text:?}");
                stack.logged(&[logged]).await.context(path)?;
            }
        }
        stack
            .logged(&["ERROR bad-1: the app raised an exception", "method=GET path=/recursion request="])
            .await?;
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hop_by_hop_headers_of_an_app_are_dropped() -> anyhow::Result<()> {
    bad(1, 1, async |stack, _| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("bad", protocol)?;
            let mut connection = client.connect().await?;
            for _ in 0..3 {
                let response = connection.send(request(Method::GET, "/hop-by-hop", empty())).await?;
                let answer = Answer::read(response).await?.expect(200)?;
                ensure!(answer.text() == "fine\n" && answer.header("x-own") == "kept", "{answer:?}");
                for name in
                    ["keep-alive", "proxy-connection", "te", "trailer", "upgrade", "transfer-encoding"]
                {
                    ensure!(answer.header(name).is_empty(), "{name} came through");
                }
                ensure!(!answer.header("connection").contains("chunked"), "{:?}", answer.headers);
            }
        }
        stack.logged(&["a connection header", "header=Transfer-Encoding"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_that_fails_half_way_is_cut_and_never_looks_complete() -> anyhow::Result<()> {
    bad(1, 2, async |stack, client| {
        let load = Load::start(client, 2, Kind::Gets);
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("bad", protocol)?;
            let record = stack.root().join(format!("{protocol:?}"));
            let path = format!("/raise-midway?record={}", record.display());
            let response = client.open(request(Method::GET, &path, empty())).await?;
            ensure!(response.status() == 200, "{}", response.status());
            ensure!(
                response.into_body().collect().await.is_err(),
                "{protocol}: an incomplete body was accepted"
            );
            until("the iterable is closed", async || {
                Ok((fs::read_to_string(&record).unwrap_or_default() == "closed\n").then_some(()))
            })
            .await?;
        }
        stack.logged(&["RuntimeError: raised in the middle of the body"]).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_failing_close_does_not_affect_the_response() -> anyhow::Result<()> {
    bad(1, 1, async |stack, client| {
        ensure!(client.get("/close-fails").await?.expect(200)?.text() == "whole\n", "another body");
        stack.logged(&["ValueError: raised by close"]).await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_writes_to_a_disconnected_client_gets_an_error() -> anyhow::Result<()> {
    bad(1, 2, async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 2, Kind::Both);
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let record = stack.root().join(format!("{protocol:?}"));
            let path = format!("/write-on?record={}", record.display());
            drop(stack.client("bad", protocol)?.open(request(Method::GET, &path, empty())).await?);
            until("the app gets the exception", async || {
                let recorded = fs::read_to_string(&record).unwrap_or_default();
                Ok((recorded == "BrokenPipeError\n").then_some(()))
            })
            .await?;
        }
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(!stack.log().contains("BrokenPipeError"), "who leaves is no failure of the app");
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

/// Path, and what the log says about the worker's exit.
const DEADLY: [(&str, &[&str]); 4] = [
    ("/os-exit", &["worker exited unexpectedly", "exited with status 0"]),
    ("/abort", &["worker exited unexpectedly", "SIGABRT"]),
    ("/segfault", &["worker exited unexpectedly", "SIGSEGV"]),
    ("/kill-itself", &["worker exited unexpectedly", "SIGKILL"]),
];

#[tokio::test]
async fn a_request_that_kills_its_worker_kills_no_other() -> anyhow::Result<()> {
    bad(3, 2, async |stack, client| {
        let load = Load::start(client, 6, Kind::Gets);
        for (path, logged) in DEADLY {
            let before = stack.ready("bad", 3).await?;
            client.post(path, "text/plain", "").await?.expect(502).context(path)?;
            stack.logged(logged).await?;
            let replaced = |app: &App| app.is_whole() && app.ready() != before;
            let after = stack.until("bad", "the worker is replaced", replaced).await?.ready();
            let left = after.iter().filter(|pid| before.contains(pid)).count();
            ensure!(left == 2, "{path}: {before:?} became {after:?}");
            load.flows(30).await?;
        }
        stack.logged(&["frontd", "worker lost with the request", "path=/segfault"]).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_get_that_kills_two_workers_is_given_up() -> anyhow::Result<()> {
    bad(3, 1, async |stack, client| {
        let before = stack.ready("bad", 3).await?;
        client.get("/os-exit").await?.expect(502)?;
        let replaced =
            |app: &App| app.is_whole() && app.ready().iter().filter(|it| before.contains(it)).count() == 1;
        stack.until("bad", "two were tried, and are replaced", replaced).await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

/// Each kills two workers that are also handling other requests, which still get responses.
#[tokio::test]
async fn gets_that_kill_their_workers_do_not_affect_others() -> anyhow::Result<()> {
    bad(4, 1, async |stack, client| {
        let load = Load::start(client, 12, Kind::Gets);
        for _ in 0..4 {
            load.flows(100).await?;
            let (one, other) = tokio::join!(client.get("/os-exit"), client.get("/os-exit"));
            one?.expect(502)?;
            other?.expect(502)?;
            stack.ready("bad", 4).await?;
        }
        load.flows(100).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_fork_that_returns_from_the_app_sends_no_response() -> anyhow::Result<()> {
    bad(1, 1, async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        for _ in 0..5 {
            ensure!(client.get("/fork-and-return").await?.expect(200)?.text() == "once\n", "another answer");
            ensure!(client.get("/fork-and-exit").await?.expect(200)?.text() == "7\n", "another status");
        }
        stack.logged(&["forked returned from the app"]).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_running_fork_does_not_keep_the_requests_of_its_dead_worker() -> anyhow::Result<()> {
    bad(1, 1, async |stack, client| {
        let gate = stack.root().join("fork");
        let pid: u32 =
            client.get(&format!("/fork-and-stay?gate={}", gate.display())).await?.text().trim().parse()?;
        let held = Gate::get(client, stack.root());
        ensure!(held.begun(1).await? == [pid], "another worker");
        stack.kill(pid)?;
        // The worker's connection is closed, although its child is still running.
        held.begun(2).await?;
        held.pass().await?;
        fs::write(gate, "")?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn endless_threads_do_not_delay_a_reload() -> anyhow::Result<()> {
    bad(1, 1, async |stack, client| {
        let load = Load::start(client, 2, Kind::Both);
        let pid: u32 = client.get("/endless-thread").await?.expect(200)?.text().trim().parse()?;
        load.flows(30).await?;
        stack.command("reload", &["bad"]).await?;
        ensure!(process::ends(pid, TIMEOUT), "{pid} is still running");
        ensure!(!stack.ready("bad", 1).await?.contains(&pid), "{pid} is still running");
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_leaking_app_is_recycled() -> anyhow::Result<()> {
    let vassal = app(2, 1)?.key("recycle = { memory = \"100 MB\" }");
    stack::with([vassal], async |stack| {
        let client = stack.client("bad", Protocol::Http1)?;
        let before = stack.ready("bad", 2).await?;
        let load = Load::start(&client, 3, Kind::Both);
        until("both workers are replaced", async || {
            client.get("/leak").await?.expect(200)?;
            let now = stack.status().await?.app("bad").map(App::ready).unwrap_or_default();
            Ok(now.iter().all(|pid| !before.contains(pid)).then_some(()))
        })
        .await?;
        stack.logged(&["recycled", "MB of memory"]).await?;
        load.finish().await?.all_right()
    })
    .await
}

fn app(workers: u32, threads: u32) -> anyhow::Result<Vassal> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).named("bad").app("bad:application").workers(workers);
    Ok(vassal.key(&format!("threads = {threads}")))
}

async fn bad(
    workers: u32,
    threads: u32,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stack::with([app(workers, threads)?.table("[timeouts]\nstop = \"2s\"")], async |stack| {
        let client = stack.client("bad", Protocol::Http1)?;
        test(stack, &client).await
    })
    .await
}
