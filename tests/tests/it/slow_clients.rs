//! Clients that neither read nor disconnect.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::ensure;
use http::Method;
use tests::client::{Protocol, empty, request};
use tests::pattern;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

const MUCH: u64 = 300_000_000;

#[tokio::test]
async fn a_response_that_nobody_reads_frees_its_worker() -> anyhow::Result<()> {
    limited("send_timeout = \"1s\"\nspool = \"1 MiB\"", &["flask"], async |stack| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            let unread = client.open(request(Method::GET, &format!("/stream?bytes={MUCH}"), empty())).await?;
            // Waits for the only thread of the only worker.
            client.get("/pid").await?.expect(200)?;
            ensure!(
                pattern::read(unread.into_body()).await.is_err(),
                "{protocol}: a cut response was accepted as complete"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_whose_part_of_the_spool_is_full_leaves_room_for_others() -> anyhow::Result<()> {
    let limits = "spool = \"20 MiB\"\nspool_per_app = \"5 MiB\"\nspool_per_client = \"20 MiB\"";
    limited(limits, &["first", "second"], async |stack| {
        let (first, second) =
            (stack.client("first", Protocol::Http1)?, stack.client("second", Protocol::Http1)?);
        let _unread = first.open(request(Method::GET, &format!("/stream?bytes={MUCH}"), empty())).await?;
        // Wait first: an upload that is spooled earlier could keep the first app from filling its share.
        let frontd = stack.daemon("frontd").await?;
        until("the part of the first is full", async || {
            Ok((largest_unnamed_file(frontd)? > 4_500_000).then_some(()))
        })
        .await?;
        let upload = vec![b'a'; 4_000_000];
        first.post("/hash", "text/plain", upload.clone()).await?.expect(503)?;
        stack.logged(&["request body refused", "app=first"]).await?;
        second.post("/hash", "text/plain", upload.clone()).await?.expect(200)?;
        Ok(())
    })
    .await
}

/// Returns the size of the largest unnamed file that a process has open, in bytes.
fn largest_unnamed_file(pid: u32) -> anyhow::Result<u64> {
    let mut largest = 0;
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may be closed meanwhile.
        if let Ok(file) = fs::metadata(descriptor?.path())
            && file.is_file()
            && file.nlink() == 0
        {
            largest = largest.max(file.len());
        }
    }
    Ok(largest)
}

async fn limited(
    limits: &str,
    names: &[&str],
    test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let vassals = names
        .iter()
        .map(|it| Vassal::flask(&place).named(it).table("[queue]\ntimeout = \"5s\""))
        .collect::<Vec<_>>();
    stack::with(vassals, async |stack| {
        fs::write(stack.root().join("frontd.toml"), format!("[limits]\n{limits}\n"))?;
        stack.kill(stack.daemon("frontd").await?)?;
        stack.all_ready().await?;
        test(stack).await
    })
    .await
}
