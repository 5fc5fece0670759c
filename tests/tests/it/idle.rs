//! Responses that stall after they started: the client is cut off, the app is interrupted, and its thread is
//! free again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tests::client::{Client, Protocol, empty, request};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn a_stalled_response_is_cut_and_its_app_is_interrupted() -> anyhow::Result<()> {
    stalling("'1s'", 1, 1, async |stack| {
        let pid = stack.ready("slow", 1).await?;
        for (protocol, path) in
            PROTOCOLS.into_iter().zip(["/stalled-sleep", "/stalled-spin", "/stalled-empty"])
        {
            let client = stack.client("slow", protocol)?;
            let mut stalled = Stalled::open(&client, stack, path).await?;
            ensure!(stalled.is_cut().await, "{protocol} {path}: a stalled body was accepted as complete");
            // An app that yields chunks can be interrupted between two of them, and is closed then.
            let expected = ["RequestTimeout: the response sent nothing for 1s", "GeneratorExit"];
            let expected = if path == "/stalled-empty" { &expected[..] } else { &expected[..1] };
            until("the app gets the exception", async || {
                let record = fs::read_to_string(&stalled.record).unwrap_or_default();
                Ok(expected.iter().any(|it| record.contains(it)).then_some(()))
            })
            .await?;
            let line = stack.logged(&["slow-1", "sent nothing for 1s", "method=GET", path]).await?;
            ensure!(line.contains("request="), "{line}");
            stack.logged(&["slow.py", &format!("in {}", path[1..].replace('-', "_"))]).await?;
            client.get("/hello").await?.expect(200)?;
        }
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        ensure!(!stack.log().contains("the app raised an exception"), "an exception of ours is the app's");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn threads_of_a_worker_stall_independently() -> anyhow::Result<()> {
    stalling("'1s'", 1, 2, async |stack| {
        let pid = stack.ready("slow", 1).await?;
        let client = stack.client("slow", Protocol::Http1)?;
        let mut stalled = Stalled::open(&client, stack, "/stalled-spin").await?;
        let record = stack.root().join("neighbour");
        let complete = client.get(&format!("/stalled-not?record={}", record.display())).await?.expect(200)?;
        ensure!(complete.text().ends_with("piece 7\n"), "it was cut: {:?}", complete.text());
        ensure!(stalled.is_cut().await, "a stalled body was accepted as complete");
        stalled.recorded("RequestTimeout").await?;
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

/// None of its threads can serve, so it doesn't matter who reads the responses.
#[tokio::test]
async fn a_worker_whose_gil_is_held_by_c_during_a_response_is_replaced() -> anyhow::Result<()> {
    stalling("'1s'", 1, 2, async |stack| {
        let pid = stack.ready("slow", 1).await?[0];
        let client = stack.client("slow", Protocol::Http2)?;
        let mut stalled = Stalled::open(&client, stack, "/stalled-deadlock-with-gil").await?;
        ensure!(stalled.is_cut().await, "a stalled body was accepted as complete");
        stack.logged(&["a request does not end", "/stalled-deadlock-with-gil"]).await?;
        let replaced = |app: &App| app.is_whole() && !app.ready().contains(&pid);
        stack.until("slow", "another has taken its place", replaced).await?;
        ensure!(process::ends(pid, TIMEOUT), "{pid} is still running");
        Ok(())
    })
    .await
}

/// An app can send an empty chunk to find out whether the client is still connected.
#[tokio::test]
async fn an_app_that_yields_empty_chunks_learns_that_its_client_has_left() -> anyhow::Result<()> {
    stalling("0", 1, 1, async |stack| {
        let pid = stack.ready("slow", 1).await?;
        for protocol in PROTOCOLS {
            let client = stack.client("slow", protocol)?;
            let stalled = Stalled::open(&client, stack, "/stalled-empty").await?;
            let record = stalled.leave();
            recorded(&record, "GeneratorExit").await?;
            client.get("/hello").await?.expect(200)?;
        }
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        ensure!(!stack.log().contains("ERROR"), "a client that left is called an error");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_waiting_app_is_interrupted_when_its_client_has_left() -> anyhow::Result<()> {
    stalling("'2s'", 1, 1, async |stack| {
        let pid = stack.ready("slow", 1).await?;
        for protocol in PROTOCOLS {
            let client = stack.client("slow", protocol)?;
            let stalled = Stalled::open(&client, stack, "/stalled-sleep").await?;
            let record = stalled.leave();
            recorded(&record, "ClientGone: the client has disconnected").await?;
            client.get("/hello").await?.expect(200)?;
        }
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        for word in ["ERROR", "given nothing"] {
            ensure!(!stack.log().contains(word), "a client that left is called {word:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_reads_nothing_costs_no_thread() -> anyhow::Result<()> {
    stalling("'1s'", 1, 1, async |stack| {
        let pid = stack.ready("slow", 1).await?;
        fs::write(stack.root().join("frontd.toml"), "[limits]\nspool = \"1 MiB\"\n")?;
        stack.kill(stack.daemon("frontd").await?)?;
        stack.all_ready().await?;
        for protocol in PROTOCOLS {
            let client = stack.client("slow", protocol)?;
            let unread = Stalled::open(&client, stack, "/stalled-endless").await?;
            unread.recorded("GeneratorExit").await?;
            client.get("/hello").await?.expect(200)?;
            drop(unread);
        }
        stack
            .logged(&[
                "INFO slow-1",
                "the client has neither read nor sent anything",
                "path=/stalled-endless",
            ])
            .await?;
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        ensure!(!stack.log().contains("ERROR"), "a client that does not read is called an error");
        Ok(())
    })
    .await
}

/// A response whose first chunk has arrived.
pub(crate) struct Stalled {
    pub(crate) record: PathBuf,
    body: Incoming,
}

impl Stalled {
    pub(crate) async fn open(client: &Client, stack: &Stack, path: &str) -> anyhow::Result<Self> {
        let record = stack.root().join(format!("stalled-{:016x}", fastrand::u64(..)));
        let query = if path.contains('?') { "" } else { "?" };
        let asked = request(Method::GET, &format!("{path}{query}record={}", record.display()), empty());
        let mut body = client.open(asked).await?.into_body();
        let first = body.frame().await.transpose()?.and_then(|it| it.into_data().ok());
        ensure!(first.as_deref() == Some(b"first\n"), "{first:?}");
        Ok(Self { record, body })
    }

    /// Waits for the end of the body, which must be an error.
    pub(crate) async fn is_cut(&mut self) -> bool {
        loop {
            match self.body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    }

    /// Disconnects the client.
    pub(crate) fn leave(self) -> PathBuf {
        self.record
    }

    async fn recorded(&self, text: &str) -> anyhow::Result<()> {
        recorded(&self.record, text).await
    }
}

async fn recorded(record: &Path, text: &str) -> anyhow::Result<()> {
    until(&format!("the app records {text:?}"), async || {
        Ok(fs::read_to_string(record).unwrap_or_default().contains(text).then_some(()))
    })
    .await
}

/// Serves `slow.py` with that limit.
pub(crate) async fn stalling(
    idle: &str,
    workers: u32,
    threads: u32,
    test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let table = format!("[timeouts]\nidle = {idle}\nstop = \"60s\"");
    let vassal = Vassal::wsgi(&Place::of_tests()?).named("slow").app("slow:application").table(&table);
    let vassal = vassal.workers(workers).key(&format!("threads = {threads}"));
    stack::with([vassal], async |stack| test(stack).await).await
}
