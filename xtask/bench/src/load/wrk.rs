//! Load over HTTP/1.1 with wrk. Parses its report.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ::tests::client::Protocol;
use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::Load;
use crate::stack::Stack;

/// The requests to send, and the number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) path: &'static str,
    pub(crate) connections: usize,
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
}

/// The method of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    /// With a body of that many bytes.
    Post(usize),
}

const THREADS: usize = 2;

impl Plan {
    /// Generates load for that long, in whole seconds. The client's script is written to `folder`.
    pub(crate) async fn run(&self, stack: &Stack, lasting: Duration, folder: &Path) -> anyhow::Result<Load> {
        let mut wrk = Command::new("wrk");
        wrk.arg(format!("-t{}", THREADS.min(self.connections)));
        wrk.arg(format!("-c{}", self.connections)).arg(format!("-d{}s", lasting.as_secs()));
        if let Method::Post(length) = self.method {
            let script = folder.join("post.lua");
            fs::write(&script, post(length)).with_context(|| format!("write {}", script.display()))?;
            wrk.arg("--script").arg(script);
        }
        wrk.arg("--latency").arg(stack.url(self.protocol, self.path)).kill_on_drop(true);
        let output = wrk.output().await.context("run wrk")?;
        let report = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "wrk {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        read(&report).with_context(|| format!("read the report of wrk:\n{report}"))
    }
}

fn post(length: usize) -> String {
    format!(
        "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {length})\n\
         wrk.headers[\"Content-Type\"] = \"application/octet-stream\"\n"
    )
}

fn read(report: &str) -> Option<Load> {
    let line = |head: &str| report.lines().find_map(|line| line.trim().strip_prefix(head));
    let errors = line("Socket errors:").map_or(Some(0), |list| list.split(',').map(last_number).sum());
    let refused = line("Non-2xx or 3xx responses:").map_or(Some(0), last_number);
    let answered = report.lines().find(|line| line.contains(" requests in "))?;
    Some(Load {
        answered: answered.split_whitespace().next()?.parse().ok()?,
        per_second: line("Requests/sec:")?.trim().parse().ok()?,
        p50: microseconds(line("50%")?)?,
        p99: microseconds(line("99%")?)?,
        failed: errors? + refused?,
    })
}

fn last_number(text: &str) -> Option<u64> {
    text.split_whitespace().last()?.parse().ok()
}

fn microseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.find(|it: char| it.is_ascii_alphabetic())?;
    let factor = match &text[unit..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(text[..unit].parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 1s test @ http://localhost:18001/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.72ms    1.13ms  12.58ms   94.18%
    Req/Sec    13.61k     3.03k   18.81k    65.00%
  Latency Distribution
     50%  508.00us
     75%  683.00us
     90%    0.93ms
     99%    3.92ms
  27079 requests in 1.01s, 4.16MB read
Requests/sec:  26939.02
Transfer/sec:      4.14MB
";

    #[test]
    fn a_report() {
        let expected = Load { answered: 27_079, per_second: 26_939.02, p50: 508.0, p99: 3_920.0, failed: 0 };
        assert_eq!(read(REPORT), Some(expected));
        assert_eq!(read("unable to connect to localhost:1 Connection refused"), None);
    }

    #[test]
    fn a_report_of_failures() {
        let errors =
            "  Socket errors: connect 0, read 3, write 0, timeout 12\n  Non-2xx or 3xx responses: 7\n";
        let report = REPORT.replace("Requests/sec", &format!("{errors}Requests/sec"));
        assert_eq!(read(&report).unwrap().failed, 22);
    }

    #[test]
    fn units_of_durations() {
        let check = |text, expected| assert_eq!(microseconds(text), expected);
        check("  508.00us", Some(508.0));
        check("1.25ms", Some(1_250.0));
        check("1.30s", Some(1_300_000.0));
        check("2.00m", None);
    }
}
