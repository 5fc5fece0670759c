//! ASGI apps that violate the rules: the responses, the log, and that other requests aren't affected.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tests::client::{Client, Protocol, empty, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::Stack;
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::TIMEOUT;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;
use crate::misbehaving::{self, recorded};

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

/// Path and log text. The client gets a 500. Each failure affects only its own request.
const FAILS: [(&str, &str); 35] = [
    ("/never-sends", "the app returned without a complete response"),
    ("/only-starts", "the app returned without a complete response"),
    ("/body-first", "the app sent http.response.body before http.response.start"),
    ("/starts-twice", "the app sent http.response.start twice"),
    ("/unknown-message", "\"http.response.end\", which isn't a message of HTTP"),
    ("/message-of-another-protocol", "\"websocket.accept\", which isn't a message of HTTP"),
    ("/no-message", "TypeError"),
    ("/message-without-type", "KeyError: 'type'"),
    ("/start-without-status", "KeyError: 'status'"),
    ("/status-text", "the status of a response isn't a number from 200 to 999"),
    ("/status-none", "the status of a response isn't a number from 200 to 999"),
    ("/status-99", "99"),
    ("/status-101", "101"),
    ("/status-1000", "1000"),
    ("/header-text", "a message has str where it needs bytes"),
    ("/header-single", "a header isn't a pair of name and value"),
    ("/header-number", "a message has int where it needs bytes"),
    ("/headers-number", "TypeError"),
    ("/header-name-injection", "is invalid"),
    ("/header-value-injection", "has an invalid character"),
    ("/header-newline", "has an invalid character"),
    ("/header-nul", "has an invalid character"),
    ("/header-no-name", "header name \"\" is invalid"),
    ("/header-huge", "the headers have more than"),
    ("/body-text", "a message has str where it needs bytes"),
    ("/body-number", "a message has int where it needs bytes"),
    ("/trailers-unannounced", "http.response.trailers"),
    ("/raises-first", "ValueError: raised before the start"),
    ("/raises-after-start", "ValueError: raised after the start"),
    ("/recursion", "RecursionError"),
    ("/sys-exit", "SystemExit: an app does not end its worker"),
    ("/keyboard-interrupt", "KeyboardInterrupt"),
    ("/cancels-itself", "CancelledError"),
    ("/raises-cancelled", "CancelledError"),
    ("/base-exception", "BaseException: not even an Exception"),
];

/// Path and log text. The client gets a 500, and the loop goes on.
const LOOPS: [(&str, &str); 2] = [
    ("/asyncio-run", "asyncio.run() cannot be called from a running event loop"),
    ("/closes-the-loop", "Cannot close a running event loop"),
];

/// Path, body, and log text of apps whose response is whole when they fail, or which are right.
const WHOLE: [(&str, &str, Option<&str>); 8] = [
    (
        "/sends-after-the-end",
        "whole\n",
        Some("the app sent http.response.body after the end of its response"),
    ),
    (
        "/starts-after-the-end",
        "whole\n",
        Some("the app sent http.response.start after the end of its response"),
    ),
    ("/raises-after-the-end", "whole\n", Some("ValueError: raised after the whole body")),
    ("/stops-the-loop", "whole\n", Some("the app has stopped the event loop, which continues")),
    ("/replaces-the-loop", "whole\n", None),
    ("/leaks-an-exception", "whole\n", Some("ValueError: raised in a task that nobody awaits")),
    ("/receives-from-two-tasks", "whole\n", None),
    ("/too-long", "five\n", Some("the app sent more than its Content-Length")),
];

#[tokio::test]
async fn an_app_that_violates_asgi_fails_only_its_own_request() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        for protocol in PROTOCOLS {
            let client = stack.client("bad", protocol)?;
            for (path, logged) in FAILS.iter().chain(&LOOPS) {
                let answer = client.get(path).await.context(*path)?;
                ensure!(answer.status == 500, "{path}: 500 expected, not {}", answer.status);
                ensure!(answer.headers.get("x-smuggled").is_none(), "{path}: a header was smuggled");
                let text = answer.text();
                ensure!(!text.contains("never") && !text.contains("Error:"), "{path} tells {text:?}");
                stack.logged(&[logged]).await.context(*path)?;
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
async fn a_complete_response_arrives_whatever_the_app_does_afterwards() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        for protocol in PROTOCOLS {
            let client = stack.client("bad", protocol)?;
            for (path, body, logged) in WHOLE {
                let text = client.get(path).await.context(path)?.expect(200)?.text();
                ensure!(text == body, "{path}: {text:?}");
                if let Some(logged) = logged {
                    stack.logged(&[logged]).await.context(path)?;
                }
            }
            let text = client.get("/sends-from-two-tasks").await?.expect(200)?.text();
            ensure!(text == "x".repeat(100_000), "{} bytes", text.len());
        }
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_cut_and_never_looks_complete() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let load = Load::start(client, 2, Kind::Both);
        for protocol in PROTOCOLS {
            let client = stack.client("bad", protocol)?;
            for path in ["/raises-midway", "/returns-midway"] {
                let response = client.open(request(Method::GET, path, empty())).await?;
                ensure!(response.status() == 200, "{path}: {}", response.status());
                let body = response.into_body().collect().await;
                ensure!(body.is_err(), "{protocol}: {path}: an incomplete body was accepted");
            }
            match client.get("/too-short").await {
                Err(_) => {}
                Ok(answer) => {
                    ensure!(answer.status == 500, "{protocol}: a short body was accepted: {answer:?}");
                }
            }
        }
        stack.logged(&["ValueError: raised after a part of the body"]).await?;
        stack.logged(&["the app returned before the end of its response's body"]).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn sys_exit_in_a_task_of_the_app_ends_no_request() -> anyhow::Result<()> {
    bad(1, "", async |_, client| {
        let load = Load::start(client, 3, Kind::Both);
        for _ in 0..3 {
            let answer = client.get("/sys-exit-in-a-task").await?.expect(200)?;
            ensure!(answer.text() == "whole\n", "{}", answer.text());
        }
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn requests_go_to_another_worker_while_an_app_blocks_its_loop() -> anyhow::Result<()> {
    bad(2, "", async |stack, client| {
        let load = Load::start(client, 3, Kind::Both);
        load.flows(30).await?;
        let blocked = Held::get(client, stack, "/blocks");
        let pid = blocked.begun().await?;
        load.flows(100).await?;
        stack.logged(&["event loop blocked for"]).await?;
        stack.logged(&["bad.py", "in blocks"]).await?;
        load.flows(30).await?;
        for _ in 0..20 {
            ensure!(tests::visit::pid(client).await? != pid, "a request waited for the blocked loop");
        }
        load.finish().await?.all_right()?;
        ensure!(blocked.release().await?.trim() == pid.to_string(), "another worker responded");
        stack.logged(&["the event loop responds again"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_request_that_swallows_its_cancellation_gets_a_504_and_its_worker_is_replaced() -> anyhow::Result<()>
{
    bad(2, "request = \"300ms\"\n", async |stack, client| {
        let before = stack.ready("bad", 2).await?;
        let load = Load::start(client, 3, Kind::Both);
        let held = Held::get(client, stack, "/swallows-cancellation");
        let pid = held.begun().await?;
        let Held { record, answer, .. } = held;
        let answer = answer.await??;
        ensure!(answer.status == 504, "{}", answer.status);
        stack.logged(&["exceeded its limit of 300ms", "path=/swallows-cancellation"]).await?;
        stack.logged(&["bad.py", "in swallows_cancellation"]).await?;
        recorded(&record, "cancelled").await?;
        stack.logged(&["a request does not end", "/swallows-cancellation"]).await?;
        let replaced = |app: &App| app.is_whole() && !app.ready().contains(&pid);
        let after = stack.until("bad", "the worker is replaced", replaced).await?.ready();
        ensure!(after.iter().any(|it| before.contains(it)), "both were replaced");
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cancelled_and_others_continue() -> anyhow::Result<()> {
    bad(1, "request = \"300ms\"\n", async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 3, Kind::Both);
        for protocol in PROTOCOLS {
            let client = stack.client("bad", protocol)?;
            let held = Held::get(&client, stack, "/gated");
            held.begun().await?;
            let answer = held.answer.await??;
            ensure!(answer.status == 504, "{protocol}: {}", answer.status);
        }
        stack.logged(&["the request that exceeded its limit has ended", "path=/gated"]).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leaked_tasks_and_threads_do_not_delay_a_reload() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        for path in ["/leaks-a-task", "/leaks-a-thread", "/never-returns"] {
            let load = Load::start(client, 2, Kind::Both);
            let pid = stack.ready("bad", 1).await?[0];
            let record = stack.root().join("leaks");
            let path = format!("{path}?record={}", record.display());
            ensure!(client.get(&path).await?.expect(200)?.text() == "whole\n", "{path}");
            load.flows(30).await?;
            stack.command("reload", &["bad"]).await?;
            ensure!(process::ends(pid, TIMEOUT), "{path}: {pid} is still running");
            ensure!(!stack.ready("bad", 1).await?.contains(&pid), "{pid} is still running");
            load.flows(30).await?;
            load.finish().await?.all_right().context(path)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_leaves_is_no_failure_of_the_app() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let load = Load::start(client, 2, Kind::Both);
        for protocol in PROTOCOLS {
            let client = stack.client("bad", protocol)?;
            let record = stack.root().join(format!("forever-{protocol:?}"));
            let path = format!("/sends-forever?record={}", record.display());
            drop(client.open(request(Method::GET, &path, empty())).await?);
            recorded(&record, "BrokenPipeError").await?;
            for (path, noted) in [
                ("/sends-to-a-client-that-has-left", "BrokenPipeError"),
                ("/receives-forever", "still disconnected"),
            ] {
                let record = stack.root().join(format!("{}-{protocol:?}", &path[1..]));
                let path = format!("{path}?record={}", record.display());
                let leaving = {
                    let client = client.clone();
                    TaskTracker::new().spawn(async move { client.get(&path).await })
                };
                recorded(&record, "begun").await?;
                leaving.abort();
                recorded(&record, noted).await?;
            }
        }
        load.flows(30).await?;
        load.finish().await?.all_right()?;
        ensure!(!stack.log().contains("BrokenPipeError"), "who leaves is no failure of the app");
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_reset_is_a_disconnect() -> anyhow::Result<()> {
    bad(1, "", async |stack, _| {
        let record = stack.root().join("reset");
        let path = format!("/sends-forever?record={}", record.display());
        let mut connection = stack.client("bad", Protocol::Http2)?.connect().await?;
        drop(connection.send(request(Method::GET, &path, empty())).await?);
        recorded(&record, "BrokenPipeError").await?;
        let next = connection.send(request(Method::GET, "/hello", empty())).await?;
        ensure!(next.status() == 200, "the connection has ended, too: {}", next.status());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_cancels_all_tasks_keeps_its_worker() -> anyhow::Result<()> {
    bad(1, "", async |stack, client| {
        let pid = stack.ready("bad", 1).await?;
        let held = Gate::get(client, stack.root());
        held.begun(1).await?;
        ensure!(client.get("/cancels-all-tasks").await?.expect(200)?.text() == "whole\n", "another body");
        held.answer().await?.expect(500)?;
        client.get("/hello").await?.expect(200)?;
        ensure!(stack.ready("bad", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

/// A request to a path that waits for a gate.
struct Held {
    record: PathBuf,
    gate: PathBuf,
    answer: tokio::task::JoinHandle<anyhow::Result<tests::client::Answer>>,
}

impl Held {
    fn get(client: &Client, stack: &Stack, path: &str) -> Self {
        let name = format!("held-{:016x}", fastrand::u64(..));
        let (record, gate) = (stack.root().join(format!("{name}.record")), stack.root().join(name));
        let path = format!("{path}?record={}&gate={}", record.display(), gate.display());
        let client = client.clone();
        Self { record, gate, answer: TaskTracker::new().spawn(async move { client.get(&path).await }) }
    }

    /// The pid of the worker that has begun it.
    async fn begun(&self) -> anyhow::Result<u32> {
        let begun = recorded(&self.record, "begun").await?;
        let pid = begun.lines().find_map(|line| line.strip_prefix("begun ")).context("a pid")?;
        Ok(pid.parse()?)
    }

    /// Opens the gate, and returns the body.
    async fn release(self) -> anyhow::Result<String> {
        fs::write(&self.gate, "")?;
        Ok(self.answer.await??.expect(200)?.text())
    }
}

async fn bad(
    workers: u32,
    timeouts: &str,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    misbehaving::serve(Vassal::bad_asgi(&Place::of_tests()?).workers(workers), timeouts, test).await
}
