//! Everything that an app sends reaches the client, in each way that apps can send it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tests::client::{Protocol, empty, request};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;
use tests::wire::{Asked, Wire};

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn chunks_before_an_exception_are_delivered() -> anyhow::Result<()> {
    delivery(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for (by, pieces) in [("yield", 1), ("yield", 2), ("yield", 300), ("write", 1), ("write", 2)] {
                let path = format!("/raise-late?by={by}&pieces={pieces}");
                let expected: String = (0..pieces).map(|number| format!("piece {number}\n")).collect();
                for round in 0..10 {
                    let response = client.open(request(Method::GET, &path, empty())).await?;
                    let (mut body, mut received) = (response.into_body(), Vec::new());
                    let cut = loop {
                        match body.frame().await {
                            Some(Ok(frame)) => received.extend(frame.into_data().unwrap_or_default()),
                            Some(Err(_)) => break true,
                            None => break false,
                        }
                    };
                    ensure!(cut, "{protocol} {path}, round {round}: an incomplete body was accepted");
                    let received = String::from_utf8(received)?;
                    ensure!(received == expected, "{protocol} {path}, round {round}: only {received:?}");
                }
            }
            client.get("/hello").await?.expect(200)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_may_be_removed_when_its_response_is_closed() -> anyhow::Result<()> {
    with_folder(async |stack, folder| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for path in ["/removed-wrapper", "/removed-sendfile"] {
                for round in 0..15 {
                    let record = stack.root().join(format!("{protocol:?}{}{round}", &path[1..]));
                    let path = format!("{path}?folder={}&record={}", folder.display(), record.display());
                    let answer = client.get(&path).await?.expect(200).with_context(|| path.clone())?;
                    ensure!(answer.body.len() == 3_000_000, "{path}: {} bytes", answer.body.len());
                    closed(&record).await?;
                }
            }
        }
        ensure!(fs::read_dir(folder)?.next().is_none(), "a file is left");
        ensure!(!stack.log().contains("ERROR"), "an error is logged");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_response_is_closed_even_if_its_file_cannot_be_sent_or_its_client_has_gone() -> anyhow::Result<()> {
    with_folder(async |stack, folder| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        let record = stack.root().join("missing");
        let query = |record: &Path| format!("folder={}&record={}", folder.display(), record.display());
        client.get(&format!("/missing-sendfile?{}", query(&record))).await?.expect(404)?;
        closed(&record).await?;
        let record = stack.root().join("head");
        let head = request(Method::HEAD, &format!("/removed-sendfile?{}", query(&record)), empty());
        client.send(head).await?.expect(200)?;
        closed(&record).await?;
        for round in 0..5 {
            let record = stack.root().join(format!("left-{round}"));
            let asked =
                format!("GET /removed-wrapper?{} HTTP/1.1\r\nHost: wsgi.localhost\r\n\r\n", query(&record));
            let mut wire = Wire::connect(stack.http).await?;
            wire.write(asked.as_bytes()).await?;
            until("the app has begun", async || {
                Ok((fs::read_dir(folder)?.next().is_some() || record.exists()).then_some(()))
            })
            .await?;
            drop(wire);
            closed(&record).await?;
        }
        Ok(())
    })
    .await
}

/// Another thread of the app holds the GIL in C code while a request arrives: I/O continues.
#[tokio::test]
async fn a_request_that_waits_for_the_gil_does_not_cost_the_worker() -> anyhow::Result<()> {
    delivery(async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        let pid = stack.ready("wsgi", 1).await?;
        let file = |name: &str| stack.root().join(name);
        let (gate, record, pipe) = (file("gate"), file("held"), file("pipe"));
        let (gate_path, record_path) = (gate.display(), record.display());
        let path = format!("/hold-gil?gate={gate_path}&record={record_path}&pipe={}", pipe.display());
        client.get(&path).await?.expect(200)?;
        fs::write(&gate, "")?;
        until("the GIL is held", async || Ok(record.exists().then_some(()))).await?;
        let (asking, asked) = (client.clone(), request(Method::GET, "/pid", empty()));
        let answer = tokio_util::task::TaskTracker::new().spawn(async move { asking.send(asked).await });
        // The worker reports this itself, which requires that its I/O is being driven.
        stack.until("wsgi", "the request has begun", |app| app.workers[0].busy == 1).await?;
        release(&pipe)?;
        let text = answer.await??.expect(200)?.text();
        ensure!(text.trim() == pid[0].to_string(), "{text:?} answered, not {pid:?}");
        ensure!(stack.ready("wsgi", 1).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

fn release(pipe: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    fs::OpenOptions::new().write(true).custom_flags(flags).open(pipe).context("open the pipe")?;
    Ok(())
}

#[tokio::test]
async fn threads_that_share_a_response_or_body_do_not_crash_the_worker() -> anyhow::Result<()> {
    delivery(async |stack| {
        let pid = stack.ready("wsgi", 1).await?;
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for round in 0..5 {
                let record = stack.root().join(format!("{protocol:?}{round}"));
                let path = format!("/helper-writes?record={}", record.display());
                let text = client.get(&path).await?.expect(200)?.text();
                ensure!(text.contains("end\n"), "{protocol}: what the app returned is lost");
                until("the other thread gets the error", async || {
                    let recorded = fs::read_to_string(&record).unwrap_or_default();
                    Ok(recorded.contains("the response has ended").then_some(()))
                })
                .await?;
            }
            for size in [10, 60_000, 500_000] {
                let read = client.post("/two-readers", "text/plain", vec![b'x'; size]).await?.expect(200)?;
                ensure!(read.text() == size.to_string(), "{protocol}: {} of {size} bytes", read.text());
            }
        }
        ensure!(stack.ready("wsgi", 1).await? == pid, "the worker was restarted");
        ensure!(!stack.log().contains("panicked"), "a panic");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn bytes_are_sent_as_one_block_with_one_warning() -> anyhow::Result<()> {
    delivery(async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        for _ in 0..3 {
            ensure!(client.get("/one-block").await?.expect(200)?.text() == "one block\n", "another body");
        }
        let head = client.send(request(Method::HEAD, "/one-block", empty())).await?.expect(200)?;
        ensure!(head.body.is_empty(), "a body after HEAD");
        stack.logged(&["WARN wsgi-1", "the app returned bytes", "return a list, [body]"]).await?;
        let warned = stack.log().matches("the app returned bytes").count();
        ensure!(warned == 1, "warned {warned} times");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_subclass_of_list_is_iterated_with_its_own_iterator() -> anyhow::Result<()> {
    delivery(async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        for (path, expected) in [("/own-iter", "aabb"), ("/plain-subclass", "ab")] {
            let text = client.get(path).await?.expect(200)?.text();
            ensure!(text == expected, "{path}: {text:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn reason_phrases_and_unusual_statuses_reach_the_client() -> anyhow::Result<()> {
    delivery(async |stack| {
        for (status, line) in [
            ("200%20OK", "HTTP/1.1 200 OK"),
            ("200", "HTTP/1.1 200 OK"),
            ("404%20Not%20Here", "HTTP/1.1 404 Not Here"),
            ("499%20Gone%20Away", "HTTP/1.1 499 Gone Away"),
            ("599%20Odd", "HTTP/1.1 599 Odd"),
            ("600%20Beyond", "HTTP/1.1 600 Beyond"),
            ("999%20Request%20denied", "HTTP/1.1 999 Request denied"),
        ] {
            let mut wire = Wire::connect(stack.http).await?;
            let asked = format!("GET /status?status={status} HTTP/1.1\r\nHost: wsgi.localhost\r\n\r\n");
            wire.write(asked.as_bytes()).await?;
            let reply = wire.reply(Asked::Body).await?.context("an answer")?;
            ensure!(reply.head.starts_with(&format!("{line}\r\n")), "{status}: {:?}", reply.head);
            ensure!(reply.body == b"answered\n", "{status}: {:?}", reply.body);
            let number: u16 = status[..3].parse()?;
            let client = stack.client("wsgi", Protocol::Http2)?;
            client.get(&format!("/status?status={status}")).await?.expect(number)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_repeated_content_length_is_an_error_only_if_it_differs() -> anyhow::Result<()> {
    delivery(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for (lengths, status) in [("5", 200), ("5|5", 200), ("5,%205", 200), ("5|6", 500), ("5,6", 500)] {
                let answer = client.get(&format!("/lengths?of={lengths}")).await?.expect(status)?;
                let count = answer.headers.get_all("content-length").iter().count();
                ensure!(count == 1, "{protocol} {lengths}: {count} times");
                ensure!(status != 200 || answer.text() == "12345", "{}", answer.text());
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_body_of_a_request_is_a_python_file() -> anyhow::Result<()> {
    delivery(async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let lines = |count: usize| (0..count).map(|it| format!("line {it} ü\n")).collect::<String>();
        for count in [3, 20_000] {
            let text = client.post("/text-wrapper", "text/plain", lines(count)).await?.expect(200)?.text();
            let upper: Vec<_> = lines(count).lines().map(|it| it.to_uppercase() + "\n").collect();
            ensure!(text == upper.join("|"), "{} bytes of another text", text.len());
            let text = client.post("/buffered-reader", "text/plain", lines(count)).await?.expect(200)?.text();
            let whole: Vec<_> = lines(count).lines().map(|it| it.to_owned() + "\n").collect();
            ensure!(text == format!("line|{}", whole.join("|")), "{} bytes of another text", text.len());
        }
        let actual = client.post("/file-details", "text/plain", "body").await?.expect(200)?.text();
        let expected = "[True, False, False, False, True, None, 'no descriptor', True, True, \
                        'I/O operation on closed file']";
        ensure!(actual == expected, "{actual}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn request_bodies_of_any_size_are_seekable() -> anyhow::Result<()> {
    delivery(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for size in [20, 60_000, 3_000_000] {
                let body: Vec<u8> = (0..size).map(|it| b'a' + u8::try_from(it % 26).unwrap_or(0)).collect();
                let last: Vec<_> = body[size - 5..].iter().map(|it| char::from(*it)).collect();
                let actual = client.post("/seek", "text/plain", body).await?.expect(200)?.text();
                let expected = format!(
                    "[True, 0, {size}, 0, {size}, {size}, 0, True, b'', {}, b'{}{}', {}, b'{}{}{}{}', {size}, \
                     1000000000, b'', 'refused', 'refused']",
                    size - 5,
                    last[0],
                    last[1],
                    size - 4,
                    last[1],
                    last[2],
                    last[3],
                    last[4],
                );
                ensure!(actual == expected, "{protocol} {size}: {actual}");
            }
            client.get("/seek").await?.expect(200).context("no body")?;
        }
        Ok(())
    })
    .await
}

async fn closed(record: &PathBuf) -> anyhow::Result<()> {
    until("the response is closed", async || {
        Ok((fs::read_to_string(record).unwrap_or_default() == "closed\n").then_some(()))
    })
    .await
}

fn app() -> anyhow::Result<Vassal> {
    Ok(Vassal::wsgi(&Place::of_tests()?).app("delivery:application"))
}

async fn delivery(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    stack::with([app()?], async |stack| test(stack).await).await
}

/// An app with a folder of files that frontd may send.
async fn with_folder(test: impl AsyncFnOnce(&Stack, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let vassal = app()?.table(&format!("[sendfile]\n\"/files/\" = \"{}\"", folder.path().display()));
    stack::with([vassal], async |stack| test(stack, folder.path()).await).await
}
