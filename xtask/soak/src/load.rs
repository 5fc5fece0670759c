//! All clients: for each app over plain HTTP, TLS and HTTP/2.

use anyhow::Context as _;
use fastrand::Rng;
use tests::client::Protocol;
use tests::keep_alive::KeepAlive;
use tests::stack::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::book::Book;
use super::ledger::Entry;
use super::line::Line;
use super::site::App;

/// The number of clients for each app and protocol.
const LINES: usize = 3;
const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

/// Load that continues until `finish`. It also ends on drop.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    lines: JoinSet<Vec<Entry>>,
}

impl Load {
    pub(crate) fn start(stack: &Stack, book: &Book, seed: u64) -> anyhow::Result<Self> {
        let ((stop, stopped), mut lines) = (watch::channel(false), JoinSet::new());
        let mut seeds = Rng::with_seed(seed);
        for app in App::ALL {
            for protocol in PROTOCOLS {
                for _ in 0..LINES {
                    let wire = KeepAlive::new(stack.client(app.name(), protocol)?);
                    lines.spawn(Line::new(app, wire, book.clone()).run(seeds.fork(), stopped.clone()));
                }
            }
        }
        Ok(Self { stop, lines })
    }

    /// Ends the load once all requests have completed.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Vec<Entry>> {
        self.stop.send_replace(true);
        let mut all = Vec::new();
        while let Some(entries) = self.lines.join_next().await {
            all.extend(entries.context("a line of the load")?);
        }
        Ok(all)
    }
}
