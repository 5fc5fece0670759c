//! Conformance to PEP 3333, tested with the standard library's validator and with callables for each corner
//! case.

use std::fs;

use anyhow::{Context as _, ensure};
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;
use tests::client::{Client, Protocol, empty, full, request};
use tests::pattern::Pattern;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

/// Complaints of `wsgiref.validate`: it raises exceptions, warns, or prints to stderr.
const COMPLAINTS: [&str; 4] =
    ["AssertionError", "WSGIWarning", "garbage collected without being closed", "Traceback"];

#[tokio::test]
async fn the_validator_around_flask_finds_nothing() -> anyhow::Result<()> {
    let vassal = Vassal::flask(&Place::of_tests()?).app("validated:application");
    stack::with([vassal], async |stack| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            for path in
                ["/", "/environ?a=1&a=2", "/headers", "/cookie", "/stream?bytes=300000", "/stream?bytes=0"]
            {
                client.get(path).await?.expect(200)?;
                client.send(request(Method::HEAD, path, empty())).await?.expect(200)?;
            }
            for body in [Vec::new(), b"a=1".to_vec(), vec![b'x'; 300_000]] {
                let echo = client.post("/echo", "text/plain", body.clone()).await?.expect(200)?;
                ensure!(echo.body == body, "{protocol}: {} bytes came back", echo.body.len());
            }
            client
                .send(request(Method::POST, "/hash", Pattern::of(400_000).streamed()))
                .await?
                .expect(200)?;
            client.send(request(Method::POST, "/hash", empty())).await?.expect(200)?;
            client.get("/no-such-page").await?.expect(404)?;
        }
        no_complaint(stack)
    })
    .await
}

#[tokio::test]
async fn the_validator_around_bare_callables_finds_nothing() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).app("validated:application");
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let record = stack.root().join("validated");
        for path in
            ["/hello", "/write", "/empty", "/types", "/file-wrapper", "/in-pieces", "/closing", "/exc-info"]
        {
            client.get(&format!("{path}?record={}", record.display())).await?;
        }
        client.post("/echo", "text/plain", "body").await?.expect(200)?;
        client.get("/no-content").await?.expect(204)?;
        no_complaint(stack)
    })
    .await
}

fn no_complaint(stack: &Stack) -> anyhow::Result<()> {
    let log = stack.log();
    for complaint in COMPLAINTS {
        ensure!(!log.contains(complaint), "the validator says {complaint}");
    }
    Ok(())
}

#[tokio::test]
async fn every_way_to_respond() -> anyhow::Result<()> {
    wsgi(async |_, client| {
        for (path, status, body) in [
            ("/hello", 200, "Hello, world\n"),
            ("/write", 200, "written\ntwice\nreturned\n"),
            ("/lazy-start", 201, "lazy\n"),
            ("/empty", 200, ""),
            ("/no-content", 204, ""),
            ("/exc-info", 503, "replaced\n"),
            ("/in-pieces", 200, "first\nsecond\n"),
            ("/types", 200, "[(1, 0), 'https', False, False, False]"),
        ] {
            let answer = client.get(path).await?;
            let right = answer.status == status && answer.text() == body;
            ensure!(right, "{path}: {status} {body:?} expected, not {} {:?}", answer.status, answer.text());
        }
        ensure!(client.get("/exc-info").await?.header("retry-after") == "7", "a header is lost");
        ensure!(client.get("/file-wrapper").await?.expect(200)?.body.len() == 200_000, "a file is cut");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_way_to_fail() -> anyhow::Result<()> {
    wsgi(async |stack, client| {
        for path in [
            "/raise-at-once",
            "/raise-after-start",
            "/start-twice",
            "/nothing",
            "/no-start",
            "/text-body",
            "/bad-header",
        ] {
            let answer = client.get(path).await.with_context(|| path)?;
            ensure!(answer.status == 500, "{path}: 500 expected, not {}", answer.status);
            ensure!(answer.headers.get("x-smuggled").is_none(), "{path}: a header was smuggled");
        }
        let short = client.get("/too-short").await;
        ensure!(
            short.is_err() || short.is_ok_and(|it| it.status.is_server_error()),
            "a short body was accepted as complete"
        );
        let pid = stack.ready("wsgi", 1).await?[0];
        ensure!(tests::visit::pid(client).await? == pid, "the worker was restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn iterables_are_closed() -> anyhow::Result<()> {
    wsgi(async |stack, client| {
        let record = |name: &str| stack.root().join(name);
        let closed = async |name: &str| {
            until("the iterable is closed", async || {
                let text = fs::read_to_string(record(name)).unwrap_or_default();
                Ok((text == "closed\n").then_some(()))
            })
            .await
        };
        let path = |path: &str, name: &str| format!("{path}?record={}", record(name).display());
        ensure!(
            client.get(&path("/closing", "get")).await?.expect(200)?.text() == "one\ntwo\n",
            "another body"
        );
        closed("get").await?;
        client.send(request(Method::HEAD, &path("/closing", "head"), empty())).await?.expect(200)?;
        closed("head").await?;
        let late = client.get(&path("/exc-info-late", "late")).await?.expect(200)?;
        ensure!(late.body.len() == 200_004, "{} bytes", late.body.len());
        ensure!(
            fs::read_to_string(record("late"))? == "raised again: too late\n",
            "exc_info was not raised again"
        );

        // A client that disconnects in the middle of an endless body.
        drop(client.open(request(Method::GET, &path("/closing-endless", "endless"), empty())).await?);
        closed("endless").await?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn head_has_no_body() -> anyhow::Result<()> {
    wsgi(async |stack, _| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("wsgi", protocol)?;
            let mut connection = client.connect().await?;
            for path in ["/hello", "/write", "/file-wrapper", "/in-pieces"] {
                let head = connection.send(request(Method::HEAD, path, empty())).await?;
                ensure!(head.status() == 200, "{protocol} {path}: {}", head.status());
                let get = connection.send(request(Method::GET, "/echo?next", empty())).await?;
                let text = tests::client::Answer::read(get).await?.text();
                ensure!(text == "next", "{protocol} {path}: the next answer is {text:?}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_way_to_read_the_body() -> anyhow::Result<()> {
    wsgi(async |_, client| {
        let read = client.post("/lines", "text/plain", "one\nabcdef\nxyz\nlast").await?.expect(200)?;
        ensure!(read.text() == "one\n|abc|def\n|xyz\n|last", "{:?}", read.text());
        for size in [10, 1_000_000] {
            let unread = client.post("/unread", "text/plain", vec![b'x'; size]).await?.expect(200)?;
            ensure!(unread.text() == "did not read it\n", "{:?}", unread.text());
        }
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_environ() -> anyhow::Result<()> {
    wsgi(async |stack, _| {
        for (protocol, spoken) in
            [(Protocol::Plain, "HTTP/1.1"), (Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")]
        {
            let client = stack.client("wsgi", protocol)?;
            let mut request = request(Method::POST, "/environ/a%20b%2Fc/%C3%BC;p?q=%20&r=1+2", full("body"));
            for (name, value) in [
                ("content-type", "text/x-test"),
                ("x-custom", "value"),
                ("proxy", "http://evil.example"),
                ("x_underscore", "dropped"),
                ("x-forwarded-for", "203.0.113.7"),
                ("x-forwarded-proto", "gopher"),
            ] {
                request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
            }
            let environ = client.send(request).await?.expect(200)?.json()?;
            let (scheme, port) = client.origin().rsplit_once(':').map(split_origin).context("an origin")?;
            for (key, value) in [
                ("REQUEST_METHOD", "POST"),
                ("SCRIPT_NAME", ""),
                // Bytes decoded as Latin-1, as required by PEP 3333.
                ("PATH_INFO", "/environ/a b/c/Ã¼;p"),
                ("QUERY_STRING", "q=%20&r=1+2"),
                ("CONTENT_TYPE", "text/x-test"),
                ("CONTENT_LENGTH", "4"),
                ("SERVER_NAME", "wsgi.localhost"),
                ("SERVER_PORT", port.as_str()),
                ("SERVER_PROTOCOL", spoken),
                ("REMOTE_ADDR", "127.0.0.1"),
                ("HTTP_HOST", &format!("wsgi.localhost:{port}")),
                ("HTTP_X_CUSTOM", "value"),
                ("HTTP_X_FORWARDED_PROTO", scheme.as_str()),
                ("wsgi.url_scheme", scheme.as_str()),
            ] {
                ensure!(environ[key] == value, "{protocol}: {key} is {}, not {value:?}", environ[key]);
            }
            for key in ["HTTP_PROXY", "HTTP_X_UNDERSCORE", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"] {
                ensure!(environ[key] == Value::Null, "{protocol}: {key} is {}", environ[key]);
            }
            let forwarded = environ["HTTP_X_FORWARDED_FOR"].as_str().unwrap_or_default();
            ensure!(forwarded.ends_with("127.0.0.1"), "{protocol}: X-Forwarded-For is {forwarded:?}");
        }
        Ok(())
    })
    .await
}

fn split_origin((origin, port): (&str, &str)) -> (String, String) {
    let scheme = origin.split_once(':').map_or(origin, |(scheme, _)| scheme);
    (scheme.to_owned(), port.to_owned())
}

#[tokio::test]
async fn headers_with_the_same_name_are_joined() -> anyhow::Result<()> {
    wsgi(async |_, client| {
        let mut request = request(Method::GET, "/environ", empty());
        for value in ["one", "two"] {
            request.headers_mut().append("x-twice", HeaderValue::from_static(value));
        }
        for crumb in ["a=1", "b=2"] {
            request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
        }
        let environ = client.send(request).await?.expect(200)?.json()?;
        ensure!(environ["HTTP_X_TWICE"] == "one,two" || environ["HTTP_X_TWICE"] == "one, two", "{environ}");
        // RFC 6265, 5.4, and RFC 9113, 8.2.3: cookies are joined with a semicolon.
        ensure!(environ["HTTP_COOKIE"] == "a=1; b=2", "{environ}");
        Ok(())
    })
    .await
}

async fn wsgi(test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>) -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        test(stack, &client).await
    })
    .await
}
