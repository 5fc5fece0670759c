//! All clients: for each app over plain HTTP, TLS and HTTP/2.

use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use tests::client::Protocol;
use tests::keep_alive::KeepAlive;
use tests::stack::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::audit::Seen;
use super::book::Book;
use super::ledger::Entry;
use super::line::Line;
use super::site::App;
use super::talk::Session;
use super::talker::{Habit, Talker};

/// The number of clients for each app and protocol.
const LINES: usize = 3;
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

/// Load that continues until `finish`. It also ends on drop.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    lines: JoinSet<Vec<Entry>>,
    talkers: JoinSet<Vec<Session>>,
}

/// How many WebSocket clients there are for each protocol, and what they do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talkers {
    pub(crate) varied: usize,
    /// The longest silence of theirs.
    pub(crate) longest_idle: Duration,
    pub(crate) endless: usize,
}

impl Load {
    pub(crate) fn start(
        stack: &Stack,
        apps: &[App],
        talkers: Talkers,
        book: &Book,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (mut lines, mut talking) = (JoinSet::new(), JoinSet::new());
        let mut seeds = Rng::with_seed(seed);
        for app in apps.iter().copied() {
            for protocol in PROTOCOLS {
                let client = stack.client(app.name(), protocol)?;
                for _ in 0..LINES {
                    let wire = KeepAlive::new(client.clone());
                    lines.spawn(Line::new(app, wire, book.clone()).run(seeds.fork(), stopped.clone()));
                }
                let varied = (0..talkers.varied).map(|_| Habit::Varied(talkers.longest_idle));
                let habits = varied.chain((0..talkers.endless).map(|_| Habit::Endless));
                for habit in habits.filter(|_| app.has_websockets()) {
                    let talker = Talker::new(app, client.clone(), book.clone(), seeds.fork());
                    talking.spawn(talker.run(habit, stopped.clone()));
                }
            }
        }
        Ok(Self { stop, lines, talkers: talking })
    }

    /// Ends the load once all requests have completed.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Seen> {
        self.stop.send_replace(true);
        let mut seen = Seen::default();
        while let Some(entries) = self.lines.join_next().await {
            seen.entries.extend(entries.context("a line of the load")?);
        }
        while let Some(sessions) = self.talkers.join_next().await {
            seen.sessions.extend(sessions.context("a WebSocket client of the load")?);
        }
        Ok(seen)
    }
}
