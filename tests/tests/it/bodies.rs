//! Bodies of all sizes in both directions, and slow clients.

use anyhow::{Context as _, ensure};
use http::{Method, Request};
use tests::client::{Answer, Body, Client, Protocol, empty, full, request};
use tests::pattern::{self, Pattern};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;

const HUGE: u64 = 300_000_000;
const GROWTH: u64 = 32 << 20;
/// Sizes around the limit for inline bodies.
const SIZES: [usize; 8] = [0, 1, 16_384, 65_535, 65_536, 65_537, 200_000, 3_000_000];

#[tokio::test]
async fn bodies_of_every_size_are_echoed() -> anyhow::Result<()> {
    flask(async |stack| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            for size in SIZES {
                let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect();
                let answer =
                    client.post("/echo", "application/octet-stream", body.clone()).await?.expect(200)?;
                ensure!(answer.body == body, "{protocol}: {size} bytes became {}", answer.body.len());
                let streamed =
                    client.open(request(Method::GET, &format!("/stream?bytes={size}"), empty())).await?;
                expect_pattern(&pattern::read(streamed.into_body()).await?, size as u64)?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_without_an_announced_length() -> anyhow::Result<()> {
    flask(async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for size in [0, 1000, 1_000_000] {
                let client = stack.client("flask", protocol)?;
                let answer = client.send(post("/hash", Pattern::of(size).streamed())).await?.expect(200)?;
                expect_hash(&answer, size)?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_huge_upload_needs_little_memory() -> anyhow::Result<()> {
    flask(async |stack| {
        let client = stack.client("flask", Protocol::Http1)?;
        let before = Footprint::of(stack, &client).await?;
        let answer = client.send(post("/hash", Pattern::of(HUGE).sized())).await?.expect(200)?;
        expect_hash(&answer, HUGE)?;
        let answer =
            stack.client("flask", Protocol::Http2)?.send(post("/hash", Pattern::of(HUGE).streamed())).await?;
        expect_hash(&answer.expect(200)?, HUGE)?;
        before.has_not_grown()
    })
    .await
}

#[tokio::test]
async fn a_huge_response_needs_little_memory() -> anyhow::Result<()> {
    flask(async |stack| {
        let client = stack.client("flask", Protocol::Http1)?;
        let before = Footprint::of(stack, &client).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            let response =
                client.open(request(Method::GET, &format!("/stream?bytes={HUGE}"), empty())).await?;
            expect_pattern(&pattern::read(response.into_body()).await?, HUGE)?;
        }
        before.has_not_grown()
    })
    .await
}

#[tokio::test]
async fn a_client_that_reads_slowly_blocks_nobody() -> anyhow::Result<()> {
    flask(async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            let slow = client.open(request(Method::GET, "/stream?bytes=50000000", empty())).await?;
            // The app has one worker with one thread.
            for _ in 0..5 {
                client.get("/pid").await?.expect(200)?;
            }
            expect_pattern(&pattern::read(slow.into_body()).await?, 50_000_000)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_sends_slowly_blocks_nobody() -> anyhow::Result<()> {
    flask(async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            let (more, body) = by_hand();
            let half = Pattern::of(200_000);
            let slow = client.send(post("/hash", body));
            let rest = async {
                for block in half {
                    more.send(block).await.context("the server gave up")?;
                }
                for _ in 0..5 {
                    client.get("/pid").await?.expect(200)?;
                }
                drop(more);
                anyhow::Ok(())
            };
            let (answer, rest) = tokio::join!(slow, rest);
            rest?;
            expect_hash(&answer?.expect(200)?, 200_000)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() -> anyhow::Result<()> {
    let vassal = Vassal::flask(&Place::of_tests()?).table("[limits]\nbody = \"100kB\"");
    stack::with([vassal], async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            client.post("/hash", "text/plain", vec![b'a'; 100_000]).await?.expect(200)?;
            client.post("/hash", "text/plain", vec![b'a'; 110_000]).await?.expect(413)?;
            client.send(post("/hash", Pattern::of(110_000).streamed())).await?.expect(413)?;
            client.get("/pid").await?.expect(200)?;
        }
        Ok(())
    })
    .await
}

/// The second chunk isn't created before the first one has arrived.
#[tokio::test]
async fn a_streamed_response_is_sent_immediately() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        use http_body_util::BodyExt as _;
        for (number, protocol) in [Protocol::Http1, Protocol::Http2].into_iter().enumerate() {
            let gate = stack.root().join(format!("pieces-{number}"));
            let path = format!("/in-pieces?gate={}", gate.display());
            let client = stack.client("wsgi", protocol)?;
            let mut body = client.open(request(Method::GET, &path, empty())).await?.into_body();
            let first = body.frame().await.context("a first piece")??;
            ensure!(first.data_ref().is_some_and(|piece| piece == "first\n"), "{first:?}");
            std::fs::write(&gate, "")?;
            ensure!(body.collect().await?.to_bytes() == "second\n", "another second piece");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cut_body_is_recognized() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("wsgi", protocol)?;
            let record = stack.root().join("midway");
            let cut = client.get(&format!("/raise-midway?record={}", record.display())).await;
            ensure!(cut.is_err(), "an incomplete body was accepted: {:?}", cut.map(|it| it.body.len()));
            stack.logged(&["RuntimeError: raised in the middle of the body"]).await?;
            let closed = async || Ok(record.exists().then_some(()));
            tests::wait::until("the iterable is closed", closed).await?;
            std::fs::remove_file(&record)?;
            client.get("/hello").await?.expect(200)?;
        }
        Ok(())
    })
    .await
}

async fn flask(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    stack::with([Vassal::flask(&Place::of_tests()?)], test).await
}

fn post(path: &str, body: Body) -> Request<Body> {
    request(Method::POST, path, body)
}

/// A body whose chunks the test sends.
fn by_hand() -> (tokio::sync::mpsc::Sender<bytes::Bytes>, Body) {
    use http_body_util::{BodyExt as _, StreamBody};
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let frames =
        futures_util::stream::unfold(receive, async |mut receive: tokio::sync::mpsc::Receiver<_>| {
            let block = receive.recv().await?;
            Some((Ok(hyper::body::Frame::data(block)), receive))
        });
    (send, StreamBody::new(frames).boxed())
}

fn expect_hash(answer: &Answer, bytes: u64) -> anyhow::Result<()> {
    let report = answer.json()?;
    ensure!(report["length"] == bytes, "{bytes} bytes sent, and {report}");
    ensure!(report["sha256"] == Pattern::of(bytes).sha256(), "other bytes arrived: {report}");
    Ok(())
}

fn expect_pattern(read: &pattern::Read, bytes: u64) -> anyhow::Result<()> {
    let expected = pattern::Read { bytes, sha256: Pattern::of(bytes).sha256() };
    ensure!(*read == expected, "{expected:?} expected, not {read:?}");
    Ok(())
}

/// Resident memory of frontd and the worker, after some requests.
struct Footprint(Vec<(&'static str, u32, u64)>);

impl Footprint {
    async fn of(stack: &Stack, client: &Client) -> anyhow::Result<Self> {
        client.send(post("/hash", full(vec![0; 1_000_000]))).await?.expect(200)?;
        client.get("/stream?bytes=1000000").await?.expect(200)?;
        let pids = [("frontd", stack.daemon("frontd").await?), ("worker", stack.ready("flask", 1).await?[0])];
        let each = pids.map(|(name, pid)| Ok((name, pid, process::memory(pid, "VmRSS")?)));
        Ok(Self(each.into_iter().collect::<anyhow::Result<_>>()?))
    }

    /// Checks that neither has grown much.
    fn has_not_grown(&self) -> anyhow::Result<()> {
        for (name, pid, before) in &self.0 {
            let most = process::memory(*pid, "VmHWM")?;
            ensure!(most < before + GROWTH, "{name} grew from {before} to {most} bytes");
        }
        Ok(())
    }
}

const PAGE_FAULTS: &str = "
import resource

def app(environ, start_response):
    length = len(environ['wsgi.input'].read())
    faults = b'%d' % resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    start_response('200 OK', [('Content-Length', str(len(faults)))])
    return [faults if length else b'']
";

/// Returned to the kernel after each request, the memory of a body costs a page fault for each 4 KiB of the next one.
#[tokio::test]
async fn the_memory_of_a_body_is_used_again_by_the_next_one() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("faults.py"), PAGE_FAULTS)?;
    for preload in ["preload = false", "preload = true"] {
        let vassal = Vassal::new("faults", folder.path(), "faults:app").workers(1).key(preload);
        stack::with([vassal], async |stack| {
            let client = stack.client("faults", Protocol::Plain)?;
            let mut faults = Vec::new();
            for _ in 0..150 {
                let answer = client.post("/", "application/octet-stream", vec![0; 100 << 10]).await?;
                faults.push(answer.expect(200)?.text().parse::<u64>()?);
            }
            let per_request = (faults[149] - faults[49]) / 100;
            ensure!(per_request < 3, "{preload}: {per_request} page faults per request: {faults:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
