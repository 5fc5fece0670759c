//! Bodies have the announced length, are omitted where none is allowed, and arrive in time.

use std::fs;

use anyhow::{Context as _, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tests::client::{Answer, Protocol, empty, request};
use tests::pattern::Pattern;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;
use tests::wire::{Asked, Reply, Wire};

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn a_body_longer_than_its_content_length_is_truncated() -> anyhow::Result<()> {
    answers(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let mut connection = client.connect().await?;
            let record = stack.root().join(format!("{protocol:?}"));
            for (path, expected) in [
                ("/too-long", "right"),
                ("/too-long-written", "right"),
                (&format!("/too-long-in-pieces?record={}", record.display()), "piece 0\npi"),
            ] {
                let response = connection.send(request(Method::GET, path, empty())).await?;
                let text = Answer::read(response).await?.expect(200)?.text();
                ensure!(text == expected, "{protocol} {path}: {text:?}");
                let next = connection.send(request(Method::GET, "/echo?next", empty())).await?;
                ensure!(Answer::read(next).await?.text() == "next", "{protocol} {path}: out of step");
            }
            let asked = fs::read_to_string(record)?;
            ensure!(asked == "0\n", "{protocol}: the app was asked for more than is wanted: {asked:?}");
        }
        for path in ["/too-long", "/too-long-written", "/too-long-in-pieces"] {
            let path = format!("path={path}");
            stack.logged(&["the app sent more than its Content-Length", "method=GET", &path]).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_never_looks_complete() -> anyhow::Result<()> {
    answers(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            client.get("/too-short").await?.expect(500)?;
            let cut = client.get("/too-short-in-pieces").await;
            ensure!(cut.is_err(), "{protocol}: {cut:?}");
            client.get("/hello").await?.expect(200)?;
        }
        for path in ["path=/too-short", "path=/too-short-in-pieces"] {
            stack.logged(&["the app raised an exception", path]).await?;
        }
        stack.logged(&["90 bytes shorter than its Content-Length"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn no_body_is_sent_where_none_is_allowed() -> anyhow::Result<()> {
    answers(async |stack| {
        for protocol in PROTOCOLS {
            let mut connection = stack.client("wsgi", protocol)?.connect().await?;
            for (method, status) in [
                (Method::GET, 204),
                (Method::GET, 304),
                (Method::POST, 204),
                (Method::HEAD, 200),
                (Method::HEAD, 404),
            ] {
                let path = format!("/body-where-none-may-be?status={status}%20X");
                let response = connection.send(request(method.clone(), &path, empty())).await?;
                let answer = Answer::read(response).await?.expect(status)?;
                ensure!(answer.body.is_empty(), "{protocol} {method} {status}: {:?}", answer.body);
                let next = connection.send(request(Method::GET, "/echo?next", empty())).await?;
                ensure!(
                    Answer::read(next).await?.text() == "next",
                    "{protocol} {method} {status}: out of step"
                );
            }
        }
        ensure!(!stack.log().contains("ERROR"), "an error is logged");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() -> anyhow::Result<()> {
    answers(async |stack| {
        for protocol in PROTOCOLS {
            let gate = stack.root().join(format!("{protocol:?}"));
            let open = |number| fs::write(gate.with_file_name(format!("{protocol:?}-{number}")), "");
            let client = stack.client("wsgi", protocol)?;
            let path = format!("/events?gate={}", gate.display());
            open(0)?;
            let mut body = client.open(request(Method::GET, &path, empty())).await?.into_body();
            for number in 0..3 {
                let event = body.frame().await.context("an event")??;
                let expected = format!("id: {number}\ndata: event\n\n");
                ensure!(event.data_ref().is_some_and(|it| *it == expected), "{protocol}: {event:?}");
                open(number + 1)?;
            }
            ensure!(body.collect().await?.to_bytes().is_empty(), "{protocol}: more than three events");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn expect_100_continue_is_answered_or_refused() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).table("[limits]\nbody = \"100kB\"");
    stack::with([vassal], async |stack| {
        let head = |length: u32| {
            format!(
                "POST /echo HTTP/1.1\r\nHost: wsgi.localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let mut wire = Wire::connect(stack.http).await?;
        for body in ["body", "more"] {
            wire.write(head(4).as_bytes()).await?;
            ensure!(next(&mut wire).await?.status == 100, "no 100 Continue");
            wire.write(body.as_bytes()).await?;
            let answer = next(&mut wire).await?;
            ensure!(answer.status == 200 && answer.body == body.as_bytes(), "{answer:?}");
        }
        wire.write(head(200_000).as_bytes()).await?;
        let refused = next(&mut wire).await?;
        ensure!(refused.status == 413, "100 Continue for a body that is too large: {refused:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_without_a_length_is_read_to_its_end() -> anyhow::Result<()> {
    answers(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for size in [1, 70_000, 500_000] {
                let streamed = request(Method::POST, "/terminated", Pattern::of(size).streamed());
                let text = client.send(streamed).await?.expect(200)?.text();
                ensure!(text == format!("{size} {size}"), "{protocol} {size}: {text}");
            }
            let text = client.get("/terminated").await?.expect(200)?.text();
            ensure!(text == "0 none", "{protocol}: {text}");
            let text = client.post("/readinto", "text/plain", "0123456789").await?.expect(200)?.text();
            ensure!(text == "01234567|89", "{protocol}: {text}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_reads_from_a_disconnected_client_gets_an_error() -> anyhow::Result<()> {
    answers(async |stack| {
        let record = stack.root().join("read");
        let path = format!("/read-slowly?record={}", record.display());
        let mut wire = Wire::connect(stack.http).await?;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: wsgi.localhost\r\nContent-Length: 20000000\r\n\r\n");
        wire.write(head.as_bytes()).await?;
        wire.write(&vec![b'x'; 20_000_000]).await?;
        let recorded = async |what: &str| {
            until(&format!("the app has written down {what:?}"), async || {
                let text = fs::read_to_string(&record).unwrap_or_default();
                Ok(text.lines().any(|line| line.contains(what)).then_some(()))
            })
            .await
        };
        recorded("begun").await?;
        drop(wire);
        recorded("OSError: read the request body: the client has disconnected").await?;
        stack.client("wsgi", Protocol::Http2)?.get("/hello").await?.expect(200)?;
        ensure!(!stack.log().contains("ERROR"), "a client that left is called an error");
        Ok(())
    })
    .await
}

async fn next(wire: &mut Wire) -> anyhow::Result<Reply> {
    wire.reply(Asked::Body).await?.context("an answer")
}

async fn answers(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).app("answers:application");
    stack::with([vassal], async |stack| test(stack).await).await
}
