//! Load over HTTP/2 with h2load. Parses its report and request log.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ::tests::client::Protocol;
use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::Load;
use crate::stack::Stack;

const CONNECTIONS: &str = "16";
const STREAMS: &str = "16";
const THREADS: &str = "2";

/// Generates load for that long, in whole seconds. The client's log is written to `folder`.
pub(crate) async fn run(stack: &Stack, lasting: Duration, folder: &Path) -> anyhow::Result<Load> {
    let log = folder.join("h2load.log");
    let _of_the_run_before = fs::remove_file(&log);
    let mut h2load = Command::new("h2load");
    h2load.args(["-t", THREADS, "-c", CONNECTIONS, "-m", STREAMS]);
    h2load.arg("-D").arg(lasting.as_secs().to_string());
    // h2load only uses the first address of a name, which may be an IPv6 address.
    h2load.arg(format!("--connect-to={}", stack.https)).arg("--log-file").arg(&log);
    h2load.arg(stack.url(Protocol::Http2, "/")).kill_on_drop(true);
    let output = h2load.output().await.context("run h2load")?;
    let report = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load {}:\n{report}", output.status);
    ensure!(report.contains("Application protocol: h2"), "it did not speak HTTP/2:\n{report}");
    let failed = failed(&report).with_context(|| format!("read the report of h2load:\n{report}"))?;
    let latencies = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    let load = Load::of(latencies.lines().filter_map(latency).collect(), failed, lasting);
    load.with_context(|| format!("no request was answered:\n{report}"))
}

/// A line contains the request's start time, its status, and its duration in microseconds.
fn latency(line: &str) -> Option<u64> {
    let mut fields = line.split('\t').skip(1);
    let good = fields.next()? == "200";
    good.then(|| fields.next()?.parse().ok())?
}

/// The number of requests with an error, plus those with a status other than 2xx.
fn failed(report: &str) -> Option<u64> {
    let line = |head: &str| report.lines().find_map(|line| line.strip_prefix(head));
    let requests = line("requests: ")?;
    let statuses = line("status codes: ")?;
    let of = |list: &str, what: &str| {
        let entry = list.split(',').find(|entry| entry.trim().ends_with(what))?;
        entry.split_whitespace().next()?.parse::<u64>().ok()
    };
    let refused: u64 = ["3xx", "4xx", "5xx"].iter().filter_map(|class| of(statuses, class)).sum();
    Some(of(requests, "errored")? + of(requests, "timeout")? + refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report() {
        let report = "finished in 1.00s, 27794.00 req/s, 2.12MB/s
requests: 27797 total, 28050 started, 27797 done, 27794 succeeded, 5 failed, 2 errored, 1 timeout
status codes: 27794 2xx, 0 3xx, 0 4xx, 3 5xx
";
        assert_eq!(failed(report), Some(6));
        assert_eq!(failed("nothing"), None);
    }

    #[test]
    fn a_line_of_the_log() {
        assert_eq!(latency("1795384349552121\t200\t3778"), Some(3778));
        assert_eq!(latency("1795384349552121\t502\t3778"), None);
        assert_eq!(latency(""), None);
    }
}
