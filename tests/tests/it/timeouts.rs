//! Requests that take too long: the client gets a response, the app is interrupted, and others aren't
//! affected.

use std::fs;

use anyhow::ensure;
use http::Method;
use http_body_util::BodyExt as _;
use rustix::process::Signal;
use tests::client::{Answer, Client, Protocol, empty, full, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;

/// A request limit for these tests.
const LIMIT: &str = "[timeouts]\nrequest = \"1s\"\nstop = \"60s\"";

#[tokio::test]
async fn a_late_request_gets_504_a_logged_stack_and_an_exception() -> anyhow::Result<()> {
    slow(1, 1, async |stack, client| {
        let pid = stack.ready("slow", 1).await?;
        for (path, function) in [("/spin", "in spin"), ("/sleep", "in sleep"), ("/lock", "in lock")] {
            let late = Late::get(client, stack, path);
            let record = late.record.clone();
            let answer = late.answer().await?.expect(504)?;
            ensure!(answer.text().contains("took too long"), "{}", answer.text());
            recorded(&record, "RequestTimeout: the request took longer than 1s").await?;
            let line = stack.logged(&["slow-1", "exceeded its limit of 1s", "method=GET", path]).await?;
            for word in ["request=", "age="] {
                ensure!(line.contains(word), "{word} expected in {line:?}");
            }
            stack.logged(&["slow.py", function]).await?;
            client.get("/hello").await?.expect(200)?;
        }
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        let log = stack.log();
        ensure!(!log.contains("the app raised an exception"), "an exception of ours is the app's");
        ensure!(!log.contains("does not end"), "a call that ended is called stuck");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn catching_exception_does_not_catch_the_timeout() -> anyhow::Result<()> {
    slow(1, 1, async |stack, client| {
        let late = Late::get(client, stack, "/retry");
        let record = late.record.clone();
        late.answer().await?.expect(504)?;
        recorded(&record, "RequestTimeout").await?;
        ensure!(!fs::read_to_string(&record)?.contains("swallowed"), "it was caught as an `Exception`");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_may_catch_request_timeout() -> anyhow::Result<()> {
    slow(1, 1, async |stack, client| {
        let pid = stack.ready("slow", 1).await?;
        let late = Late::get(client, stack, "/by-name");
        let record = late.record.clone();
        late.answer().await?.expect(504)?;
        recorded(&record, "cleaned up after ").await?;
        ensure!(client.get("/echo?next").await?.expect(200)?.text() == "next", "the answer of another");
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_late_request_with_a_body_is_not_retried() -> anyhow::Result<()> {
    slow(2, 1, async |stack, client| {
        for size in [10, 1_000_000] {
            let late = Late::send(client, stack, Method::POST, "/read-more", vec![b'x'; size]);
            let record = late.record.clone();
            late.answer().await?.expect(504)?;
            recorded(&record, "RequestTimeout").await?;
            let begun = fs::read_to_string(&record)?.matches("begun").count();
            ensure!(begun == 1, "it was begun {begun} times");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_new_limit_needs_no_new_worker() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let vassal = Vassal::wsgi(&place).named("slow").app("slow:application");
    stack::with([vassal.clone()], async |stack| {
        let client = stack.client("slow", Protocol::Http1)?;
        let pid = stack.ready("slow", 1).await?;
        // Another visible setting changes with it.
        stack.put(&vassal.folder("/static/", &place.apps.join("flask/static")).table(LIMIT))?;
        until("frontd has the new table", async || {
            Ok((client.get("/static/style.css").await?.status == 200).then_some(()))
        })
        .await?;
        Late::get(&client, stack, "/sleep").answer().await?.expect(504)?;
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_requests_in_the_process_of_a_late_one_are_not_affected() -> anyhow::Result<()> {
    slow(1, 4, async |stack, client| {
        let pid = stack.ready("slow", 1).await?;
        let load = Load::start(client, 4, Kind::Both);
        let held = Gate::get(client, stack.root());
        held.begun(1).await?;
        load.flows(100).await?;
        for _ in 0..3 {
            Late::get(client, stack, "/spin").answer().await?.expect(504)?;
            load.flows(30).await?;
        }
        load.finish().await?.all_right()?;
        ensure!(stack.ready("slow", 1).await? == pid, "the worker was restarted");
        // It exceeds the limit too, and has its own deadline.
        let (_, answer) = held.end().await?;
        answer.expect(504)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stream_that_has_started_has_no_request_limit() -> anyhow::Result<()> {
    slow(2, 1, async |stack, client| {
        let (record, gate) = (stack.root().join("events"), stack.root().join("gate"));
        let path = format!("/events?record={}&gate={}", record.display(), gate.display());
        let mut events = client.open(request(Method::GET, &path, empty())).await?;
        let first = events.body_mut().frame().await.transpose()?.and_then(|it| it.into_data().ok());
        ensure!(first.as_deref() == Some(b"data: first\n\n"), "{first:?}");
        // A request that started later exceeds the limit. So would this one if it had a limit.
        Late::get(client, stack, "/sleep").answer().await?.expect(504)?;
        fs::write(gate, "")?;
        ensure!(Answer::read(events).await?.text() == "data: last\n\n", "the stream was cut");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hanging_close_is_interrupted() -> anyhow::Result<()> {
    slow(1, 1, async |stack, client| {
        let late = Late::get(client, stack, "/close-hangs");
        let record = late.record.clone();
        ensure!(late.answer().await?.expect(200)?.text() == "whole\n", "another body");
        recorded(&record, "RequestTimeout").await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_worker_stuck_in_c_is_replaced_once_its_other_requests_have_ended() -> anyhow::Result<()> {
    slow(2, 2, async |stack, client| {
        let before = stack.ready("slow", 2).await?;
        let load = Load::start(client, 4, Kind::Both);
        let late = Late::get(client, stack, "/deadlock");
        let stuck = late.begun().await?;
        // A stream in another thread of the same worker: it has started, so it may continue.
        let stream = Stream::of(client, stack, stuck).await?;
        late.answer().await?.expect(504)?;
        stack.logged(&["slow.py", "in deadlock"]).await?;
        stack.logged(&["a request does not end", "/deadlock"]).await?;
        stack.logged(&["worker is drained", "does not end"]).await?;
        let replaced = |app: &App| app.ready().len() == 2 && !app.ready().contains(&stuck);
        let after = stack.until("slow", "another has taken its place", replaced).await?.ready();
        ensure!(after.iter().filter(|pid| before.contains(pid)).count() == 1, "{before:?} became {after:?}");
        ensure!(stream.is_open(), "its neighbour was cut");
        ensure!(stream.end().await? == "data: last\n\n", "its neighbour was cut");
        ensure!(process::ends(stuck, TIMEOUT), "{stuck} is still running");
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_worker_whose_gil_is_held_by_c_is_replaced_and_its_stack_is_logged() -> anyhow::Result<()> {
    slow(2, 1, async |stack, client| {
        let load = Load::start(client, 3, Kind::Gets);
        let late = Late::get(client, stack, "/deadlock-with-gil");
        let stuck = late.begun().await?;
        late.answer().await?.expect(504)?;
        stack.logged(&["a request does not end", "/deadlock-with-gil"]).await?;
        stack.logged(&["slow.py", "in deadlock_with_gil"]).await?;
        ensure!(process::ends(stuck, TIMEOUT), "{stuck} is still running");
        let after = stack.ready("slow", 2).await?;
        ensure!(!after.contains(&stuck), "{stuck} is still running");
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_frozen_worker_is_replaced_and_others_answer_its_requests() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(2);
    stack::with([vassal], async |stack| {
        let client = &stack.client("wsgi", Protocol::Http1)?;
        let load = Load::start(client, 6, Kind::Gets);
        load.flows(50).await?;
        let before = stack.ready("wsgi", 2).await?;
        process::signal(before[0], Signal::STOP)?;
        let replaced = |app: &App| app.ready().len() == 2 && !app.ready().contains(&before[0]);
        let after = stack.until("wsgi", "another has taken its place", replaced).await?.ready();
        ensure!(after.contains(&before[1]), "{before:?} became {after:?}");
        stack.logged(&["worker stopped: it doesn't respond", "wsgi-"]).await?;
        ensure!(process::ends(before[0], TIMEOUT), "{} is still frozen", before[0]);
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn clients_of_a_frozen_worker_get_a_response_in_time() -> anyhow::Result<()> {
    slow(1, 1, async |stack, client| {
        let held = Gate::send(client, stack.root(), Method::POST);
        let pid = held.begun(1).await?[0];
        process::signal(pid, Signal::STOP)?;
        let (_, answer) = held.end().await?;
        answer.expect(504)?;
        stack.logged(&["frontd", "the worker doesn't respond", "method=POST"]).await?;
        let replaced = |app: &App| app.is_whole() && !app.ready().contains(&pid);
        stack.until("slow", "another has taken its place", replaced).await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

/// A request that takes too long.
struct Late {
    record: std::path::PathBuf,
    answer: JoinHandle<anyhow::Result<Answer>>,
}

impl Late {
    fn get(client: &Client, stack: &Stack, path: &str) -> Self {
        Self::send(client, stack, Method::GET, path, Vec::new())
    }

    fn send(client: &Client, stack: &Stack, method: Method, path: &str, body: Vec<u8>) -> Self {
        let record = stack.root().join(format!("late-{:016x}", fastrand::u64(..)));
        let body = if body.is_empty() { empty() } else { full(body) };
        let request = request(method, &format!("{path}?record={}", record.display()), body);
        let client = client.clone();
        let answer = TaskTracker::new().spawn(async move { client.send(request).await });
        Self { record, answer }
    }

    /// Waits until the app has started it, and returns the pid of its process.
    async fn begun(&self) -> anyhow::Result<u32> {
        until("the app has begun the request", async || {
            let record = fs::read_to_string(&self.record).unwrap_or_default();
            let pid = record.lines().find_map(|line| line.strip_prefix("begun "));
            Ok(pid.map(str::parse).transpose()?)
        })
        .await
    }

    async fn answer(self) -> anyhow::Result<Answer> {
        self.answer.await?
    }
}

/// An open stream of a particular worker.
struct Stream {
    gate: std::path::PathBuf,
    rest: JoinHandle<anyhow::Result<Answer>>,
}

impl Stream {
    /// Opens streams until that process handles one. The others are abandoned.
    async fn of(client: &Client, stack: &Stack, pid: u32) -> anyhow::Result<Self> {
        loop {
            let name = format!("stream-{:016x}", fastrand::u64(..));
            let (record, gate) = (stack.root().join(&name), stack.root().join(format!("{name}.gate")));
            let path = format!("/events?record={}&gate={}", record.display(), gate.display());
            let mut response = client.open(request(Method::GET, &path, empty())).await?;
            response.body_mut().frame().await.transpose()?;
            let rest = TaskTracker::new().spawn(Answer::read(response));
            if fs::read_to_string(&record)?.trim() == format!("begun {pid}") {
                return Ok(Self { gate, rest });
            }
            fs::write(gate, "")?;
            rest.await??;
        }
    }

    fn is_open(&self) -> bool {
        !self.rest.is_finished()
    }

    async fn end(self) -> anyhow::Result<String> {
        fs::write(&self.gate, "")?;
        Ok(self.rest.await??.text())
    }
}

async fn recorded(record: &std::path::Path, text: &str) -> anyhow::Result<()> {
    until(&format!("the app records {text:?}"), async || {
        Ok(fs::read_to_string(record).unwrap_or_default().contains(text).then_some(()))
    })
    .await
}

async fn slow(
    workers: u32,
    threads: u32,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).named("slow").app("slow:application").table(LIMIT);
    let vassal = vassal.workers(workers).key(&format!("threads = {threads}"));
    stack::with([vassal], async |stack| {
        let client = stack.client("slow", Protocol::Http1)?;
        test(stack, &client).await
    })
    .await
}
