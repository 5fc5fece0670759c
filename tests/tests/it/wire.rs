//! Raw requests, valid and invalid, from files with the expected responses.
//!
//! `requests/{valid,invalid}/NAME.http` contains the bytes: line ends of the file are ignored, `\r`, `\n`,
//! `\0`, `\\` and `\xHH` are bytes, and `\{a*1000}` is a thousand of them. `NAME.expect` lists the expected
//! responses, one per line: `200 its full body`, `200 ~a part of its body`, `400`, `400|501` for either.
//! `HEAD 200` means that no body may follow. A `-` among the choices means that the connection may be closed
//! without a response. An indented line is a header line that the response above must have, or with `!` the
//! name of a header that it must not have.
//! The last line is the state of the connection: `open` means that a subsequent victim's request on it gets
//! its own response, `closed` that it gets none. An error response without a body is never correct.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use http::Method;
use tests::client::{Protocol, empty, request};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wire::{Asked, Reply, Wire};

const VICTIM: &[u8] = b"GET /echo?victim HTTP/1.1\r\nHost: wsgi.localhost\r\n\r\n";

#[tokio::test]
async fn valid_requests_get_their_responses() -> anyhow::Result<()> {
    all_of("valid").await
}

#[tokio::test]
async fn invalid_requests_are_refused_and_affect_no_other() -> anyhow::Result<()> {
    all_of("invalid").await
}

async fn all_of(folder: &str) -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let bystanders = Load::start(&stack.client("wsgi", Protocol::Plain)?, 2, Kind::Gets);
        let mut failed = Vec::new();
        for case in cases(folder)? {
            if let Err(error) = play(stack, &case).await {
                failed.push(format!("{}: {error:#}", case.display()));
            }
        }
        bystanders.flows(20).await?;
        bystanders.finish().await?.all_right()?;
        ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_for_any_host_has_a_server_name_without_a_host_header() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).domain("*")], async |stack| {
        for request in ["GET /environ HTTP/1.0\r\n\r\n", "GET /environ HTTP/1.1\r\nHost:\r\n\r\n"] {
            let mut wire = Wire::connect(stack.http).await?;
            wire.write(request.as_bytes()).await?;
            let reply = wire.reply(Asked::Body).await?.context("an answer")?;
            let environ: serde_json::Value = serde_json::from_slice(&reply.body)?;
            ensure!(environ["SERVER_NAME"] == "127.0.0.1", "{request:?}: {environ:#}");
            ensure!(environ.get("HTTP_HOST").is_none(), "{request:?}: {environ:#}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn frontds_own_responses_to_head_have_no_body() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).key("path = \"/app\"")], async |stack| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("wsgi", protocol)?;
            let full = client.get("/").await?.expect(404)?;
            let head = client.send(request(Method::HEAD, "/", empty())).await?.expect(404)?;
            ensure!(head.body.is_empty(), "{protocol}: {:?}", head.body);
            let length = head.headers.get("content-length").context("a length")?;
            ensure!(*length == full.body.len().to_string(), "{protocol}: {length:?}");
        }
        Ok(())
    })
    .await
}

fn cases(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("requests").join(folder);
    let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut cases: Vec<_> =
        files.into_iter().filter(|path| path.extension().is_some_and(|it| it == "http")).collect();
    cases.sort();
    ensure!(!cases.is_empty(), "no case in {}", folder.display());
    Ok(cases)
}

async fn play(stack: &Stack, case: &Path) -> anyhow::Result<()> {
    let bytes = unescape(&fs::read_to_string(case)?)?;
    let expected = Expected::parse(&fs::read_to_string(case.with_extension("expect"))?)?;
    let mut wire = Wire::connect(stack.http).await?;
    wire.write(&bytes).await?;
    wire.write(VICTIM).await?;
    for answer in &expected.answers {
        let reply = wire.reply(answer.asked).await?;
        ensure!(answer.allows(reply.as_ref()), "{} expected, not {}", answer.line, show(reply.as_ref()));
        if reply.is_none() {
            return Ok(());
        }
    }
    let victim = wire.reply(Asked::Body).await?;
    let served = victim.as_ref().is_some_and(|it| it.status == 200 && it.body == b"victim");
    match expected.then {
        Then::Open => ensure!(served, "the victim was answered {}", show(victim.as_ref())),
        Then::Closed => ensure!(victim.is_none(), "after that came {}", show(victim.as_ref())),
    }
    Ok(())
}

fn show(reply: Option<&Reply>) -> String {
    reply.map_or("a close".to_owned(), |it| format!("{:?} {:?}", it.head, String::from_utf8_lossy(&it.body)))
}

struct Expected {
    answers: Vec<Due>,
    then: Then,
}

enum Then {
    Open,
    Closed,
}

struct Due {
    line: String,
    asked: Asked,
    choices: Vec<String>,
    body: Option<String>,
    head: Vec<String>,
}

impl Expected {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines: Vec<_> = text.lines().collect();
        let then = match lines.pop() {
            Some("open") => Then::Open,
            Some("closed") => Then::Closed,
            other => bail!("`open` or `closed` expected in the last line, not {other:?}"),
        };
        let mut answers: Vec<Due> = Vec::new();
        for line in lines {
            match (line.strip_prefix("  "), answers.last_mut()) {
                (Some(line), Some(answer)) => answer.head.push(line.to_owned()),
                _ => answers.push(Due::parse(line)),
            }
        }
        Ok(Self { answers, then })
    }
}

impl Due {
    fn parse(line: &str) -> Self {
        let (asked, rest) =
            line.strip_prefix("HEAD ").map_or((Asked::Body, line), |rest| (Asked::Head, rest));
        let (choices, body) = rest.split_once(' ').map_or((rest, None), |(first, body)| (first, Some(body)));
        let choices = choices.split('|').map(str::to_owned).collect();
        Self { line: line.to_owned(), asked, choices, body: body.map(str::to_owned), head: Vec::new() }
    }

    fn allows(&self, reply: Option<&Reply>) -> bool {
        let Some(reply) = reply else { return self.choices.iter().any(|it| it == "-") };
        let status = self.choices.contains(&reply.status.to_string());
        let is_explained = reply.status < 400 || self.asked == Asked::Head || !reply.body.is_empty();
        let has_line = |line: &String| match line.strip_prefix('!') {
            Some(name) => {
                let names = reply.head.lines().filter_map(|it| Some(it.split_once(':')?.0));
                names.into_iter().all(|it| !it.eq_ignore_ascii_case(name))
            }
            None => reply.head.lines().any(|it| it == line),
        };
        status && is_explained && self.has_body(&reply.body) && self.head.iter().all(has_line)
    }

    fn has_body(&self, body: &[u8]) -> bool {
        match self.body.as_deref().map(|it| it.strip_prefix('~').ok_or(it)) {
            None => true,
            Some(Ok(part)) => String::from_utf8_lossy(body).contains(part),
            Some(Err(full)) => full.as_bytes() == body,
        }
    }
}

fn unescape(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.replace('\n', "");
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let (escape, length) = escape(escaped).with_context(|| format!("an escape: \\{escaped}"))?;
        bytes.extend(escape);
        rest = escaped[length..].to_owned();
    }
    bytes.extend(rest.as_bytes());
    Ok(bytes)
}

/// Decodes an escape at the beginning of `text`. Returns the bytes and the length of the escape.
fn escape(text: &str) -> Option<(Vec<u8>, usize)> {
    Some(match text.chars().next()? {
        'r' => (vec![b'\r'], 1),
        'n' => (vec![b'\n'], 1),
        '0' => (vec![0], 1),
        '\\' => (vec![b'\\'], 1),
        'x' => (vec![u8::from_str_radix(text.get(1..3)?, 16).ok()?], 3),
        '{' => {
            let (inside, _) = text[1..].split_once('}')?;
            let (what, times) = inside.rsplit_once('*')?;
            (unescape(what).ok()?.repeat(times.parse().ok()?), inside.len() + 2)
        }
        _ => return None,
    })
}

#[test]
fn escapes() -> anyhow::Result<()> {
    ensure!(unescape("a\\r\\n\nb\\x00\\0\\{xy*3}\\\\c")? == b"a\r\nb\0\0xyxyxy\\c");
    Ok(())
}
