//! If nobody reads the log, lines are dropped, but nothing else is affected.

use std::io::{self, PipeReader, Read as _, Write as _};

use anyhow::{Context as _, ensure};
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;

/// What each request logs, with lines of `ENDS` at both ends.
const APP: &str = r#"
import logging, sys

logging.basicConfig(format="%(message)s")
PAD = "x" * 200

def application(environ, start_response):
    line = f"<<app {PAD}>>"
    print(line)
    print(line, file=sys.__stderr__)
    logging.warning(line)
    environ["wsgi.errors"].write(line + "\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"answered"]
"#;
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 600;

/// A pipe that is full.
fn full_pipe() -> anyhow::Result<(PipeReader, io::PipeWriter)> {
    let (reader, mut writer) = io::pipe()?;
    let capacity = rustix::pipe::fcntl_getpipe_size(&writer)?;
    writer.write_all(&vec![b'\n'; capacity])?;
    Ok((reader, writer))
}

async fn ask(client: Client) -> anyhow::Result<()> {
    for number in 0..REQUESTS {
        let answer = client.get("/").await.with_context(|| format!("request {number}"))?;
        ensure!(answer.expect(200)?.text() == "answered");
    }
    Ok(())
}

#[tokio::test]
async fn every_request_is_answered_and_dropped_lines_are_counted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("loud.py"), APP)?;
    let loud = Vassal::new("loud", folder.path(), "loud").workers(2);
    let preloaded = loud.clone().named("preloaded").key("preload = true").key("threads = 3");
    let (mut reader, writer) = full_pipe()?;
    // With this filter, each HTTP/2 frame is an event, so frontd logs a lot.
    let filter = "info,frontd=debug,h2=debug,hyper=debug";
    let stack = Stack::logging_to(writer, filter, Place::of_tests()?, [loud, preloaded])?;
    stack.all_ready().await?;
    // Forks, exits and starts of processes continue as well.
    stack.command("reload", &["preloaded"]).await?;
    stack.command("scale", &["loud", "3"]).await?;

    let mut asking = tokio::task::JoinSet::new();
    for app in ["loud", "preloaded"] {
        for _ in 0..CONNECTIONS / 2 {
            asking.spawn(ask(stack.client(app, Protocol::Http2)?));
        }
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    let metrics = stack.probe("/-/metrics").await?.expect(200)?.text();
    let line = metrics.lines().find(|line| line.starts_with("imperium_log_lines_dropped_total "));
    let frontd_dropped: u64 = line.and_then(|it| it.rsplit(' ').next()).context("the metric")?.parse()?;

    // The log is read again, until the stack stops.
    let log = tokio::task::spawn_blocking(move || {
        let mut log = Vec::new();
        reader.read_to_end(&mut log).map(|_| String::from_utf8_lossy(&log).into_owned())
    });
    stack.stop_with_clients().await?;
    let log = log.await??;
    let reports = |of: &str| {
        let is_report = |line: &&str| line.contains(of) && line.contains("lines of the log were dropped");
        log.lines().filter(is_report).count()
    };
    ensure!(reports(" loud-") > 0, "no worker reports what it dropped");
    ensure!(reports(" preloaded-") > 0, "no forked worker reports what it dropped");
    ensure!(frontd_dropped == 0 || reports(" frontd:") > 0, "frontd reports nothing of {frontd_dropped}");
    for line in log.lines().filter(|line| line.contains("<<app") || line.contains("x>>")) {
        ensure!(line.ends_with(">>") && line.matches("<<app").count() == 1, "cut or mixed: {line}");
    }
    Ok(())
}
