//! Early hints, which clients receive while the app still prepares its response.

use std::fs;

use anyhow::{Context as _, ensure};
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wire::{Asked, Reply, Wire};

const NEXT: &str = "GET /hello HTTP/1.1\r\nHost: wsgi.localhost\r\n\r\n";

#[tokio::test]
async fn hints_arrive_before_the_response() -> anyhow::Result<()> {
    answers(async |stack| {
        let (record, gate) = (stack.root().join("hinted"), stack.root().join("gate"));
        let path = format!("/hints?record={}&gate={}", record.display(), gate.display());
        let mut wire = Wire::connect(stack.http).await?;
        wire.write(format!("GET {path} HTTP/1.1\r\nHost: wsgi.localhost\r\n\r\n").as_bytes()).await?;
        for hint in ["</style.css>; rel=preload; as=style", "</app.js>; rel=preload; as=script"] {
            let interim = next(&mut wire).await?;
            let expected = format!("HTTP/1.1 103 Early Hints\r\nLink: {hint}\r\n\r\n");
            ensure!(interim.head == expected, "{:?}", interim.head);
        }
        ensure!(!gate.exists(), "the app was not waited for");
        fs::write(&gate, "")?;
        let page = next(&mut wire).await?;
        ensure!(page.status == 200 && page.body == b"page\n", "{page:?}");
        wire.write(NEXT.as_bytes()).await?;
        ensure!(next(&mut wire).await?.body == b"Hello, world\n", "the connection is out of step");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn clients_without_support_for_hints_get_the_response() -> anyhow::Result<()> {
    answers(async |stack| {
        let record = stack.root().join("hinted");
        let path = format!("/hints?record={}", record.display());
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let page = stack.client("wsgi", protocol)?.get(&path).await?.expect(200)?;
            ensure!(page.text() == "page\n", "{protocol}: {}", page.text());
        }
        let mut wire = Wire::connect(stack.http).await?;
        wire.write(format!("GET {path} HTTP/1.0\r\nHost: wsgi.localhost\r\n\r\n").as_bytes()).await?;
        let only = next(&mut wire).await?;
        ensure!(only.status == 200, "HTTP/1.0 knows no interim responses: {only:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn invalid_hints_do_no_harm() -> anyhow::Result<()> {
    answers(async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        client.get("/bad-hints").await?.expect(500)?;
        stack.logged(&["ValueError", "has an invalid character"]).await?;
        text(&client, "/late-hints", "begun\nended\n").await?;
        text(&client, "/hints-of-nobody", "[None]").await
    })
    .await
}

async fn text(client: &Client, path: &str, expected: &str) -> anyhow::Result<()> {
    let text = client.get(path).await?.expect(200)?.text();
    ensure!(text == expected, "{path}: {text:?}");
    Ok(())
}

async fn next(wire: &mut Wire) -> anyhow::Result<Reply> {
    wire.reply(Asked::Body).await?.context("an answer")
}

async fn answers(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).app("answers:application");
    stack::with([vassal], async |stack| test(stack).await).await
}
