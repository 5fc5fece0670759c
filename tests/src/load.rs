//! Checked load: every answer is judged by its content, and nothing is left unaccounted for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, Body, Client, empty, full, request};
use crate::keep_alive::KeepAlive;
use crate::wait::until;

/// Between two requests of one connection: the load is steady, and leaves the machine room to work.
const PAUSE: Duration = Duration::from_millis(2);
/// An answer that takes longer is lost: sooner than a server's own limits, of 30 s and more, can hide a hang.
const PATIENCE: Duration = Duration::from_secs(25);
const SAMPLES: usize = 5;

/// What is asked of the `/echo` of the bare WSGI app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GET, which may be tried again elsewhere.
    Gets,
    /// POST, which may not once it has begun.
    Posts,
    /// GET over one connection, POST over the next.
    Both,
}

/// How long a connection of the load lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// For as long as the server keeps it.
    Kept,
    /// For one request.
    OneRequest,
}

/// Load that goes on until `finish`.
pub struct Load {
    stop: watch::Sender<bool>,
    right: Arc<AtomicU64>,
    connections: JoinSet<Ledger>,
}

/// Where every request went.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Requests that were written to a connection.
    pub sent: u64,
    /// Answered with 200 and the content that was due.
    pub right: u64,
    /// Answered with another status, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Answered with 200 and another content.
    pub wrong: u64,
    /// Never answered, or cut.
    pub lost: u64,
    /// Connections that were opened: more than at first, when some had to be opened again.
    pub connections: u64,
    /// How long the slowest answer took that was right.
    pub longest: Duration,
    /// A few words on what was not right.
    pub samples: Vec<String>,
}

impl Load {
    /// Starts load over `connections` keep-alive connections.
    #[must_use]
    pub fn start(client: &Client, connections: usize, kind: Kind) -> Self {
        Self::over(client, kind, (0..connections).map(|_| Lasts::Kept))
    }

    /// Starts load over as many keep-alive connections, and as many times over one connection after the other,
    /// each of which is for a single request.
    #[must_use]
    pub fn start_mixed(client: &Client, connections: usize, kind: Kind) -> Self {
        let each = |lasts| (0..connections).map(move |_| lasts);
        Self::over(client, kind, each(Lasts::Kept).chain(each(Lasts::OneRequest)))
    }

    fn over(client: &Client, kind: Kind, connections: impl Iterator<Item = Lasts>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let right = Arc::new(AtomicU64::new(0));
        let tasks = connections.enumerate().map(|(number, lasts)| {
            let wire = KeepAlive::new(client.clone());
            let line = Line { number, kind, lasts, wire, ledger: Ledger::default() };
            line.run(stopped.clone(), right.clone())
        });
        Self { stop, connections: tasks.collect(), right }
    }

    /// Waits until so many more requests were answered right.
    ///
    /// # Errors
    /// When that takes far too long.
    pub async fn flows(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.right.load(Ordering::Relaxed) + more;
        until("load is answered", async || Ok((self.right.load(Ordering::Relaxed) >= goal).then_some(())))
            .await
    }

    /// Ends the load once every request under way has its outcome.
    ///
    /// # Errors
    /// When a task of the load panicked.
    pub async fn finish(mut self) -> anyhow::Result<Ledger> {
        self.stop.send_replace(true);
        let mut total = Ledger::default();
        while let Some(ledger) = self.connections.join_next().await {
            total.add(ledger.context("a connection of the load")?);
        }
        Ok(total)
    }
}

impl Ledger {
    /// Demands that every request was answered right.
    ///
    /// # Errors
    /// With the whole ledger, when one was not, or when there was hardly any load.
    pub fn all_right(&self) -> anyhow::Result<()> {
        ensure!(self.right == self.sent && self.sent > 20, "requests failed: {self:#?}");
        Ok(())
    }

    /// How many answers had that status.
    #[must_use]
    pub fn status(&self, status: u16) -> u64 {
        self.refused.get(&status).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.right += other.right;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.connections += other.connections;
        self.longest = self.longest.max(other.longest);
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.samples.extend(other.samples);
        self.samples.truncate(SAMPLES);
    }

    fn sample(&mut self, text: String) {
        if self.samples.len() < SAMPLES {
            self.samples.push(text);
        }
    }
}

/// One connection of the load, or one after the other.
struct Line {
    number: usize,
    kind: Kind,
    lasts: Lasts,
    wire: KeepAlive,
    ledger: Ledger,
}

impl Line {
    async fn run(mut self, stopped: watch::Receiver<bool>, right: Arc<AtomicU64>) -> Ledger {
        let mut count = 0;
        while !*stopped.borrow() {
            count += 1;
            let due = format!("c={}&n={count}&{:016x}", self.number, fastrand::u64(..));
            let before = self.ledger.right;
            self.ask(&due).await;
            if self.lasts == Lasts::OneRequest {
                self.wire.close();
            }
            right.fetch_add(self.ledger.right - before, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        self.ledger.connections = self.wire.opened();
        self.ledger
    }

    async fn ask(&mut self, due: &str) {
        self.ledger.sent += 1;
        let begun = Instant::now();
        let request = self.request(due);
        let exchange = async { Answer::read(self.wire.send(request).await?).await };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(answer)) => self.judge(due, &answer, begun.elapsed()),
            Ok(Err(error)) => self.lose(format!("{due}: {error:#}")),
            Err(_) => self.lose(format!("{due}: no answer within {PATIENCE:?}")),
        }
    }

    fn judge(&mut self, due: &str, answer: &Answer, took: Duration) {
        if answer.status != 200 {
            *self.ledger.refused.entry(answer.status.as_u16()).or_default() += 1;
            self.ledger.sample(format!("{due}: {} {}", answer.status, answer.text()));
        } else if answer.body == due.as_bytes() {
            self.ledger.right += 1;
            self.ledger.longest = self.ledger.longest.max(took);
        } else {
            self.ledger.wrong += 1;
            self.ledger.sample(format!("{due}: another's content: {}", answer.text()));
        }
    }

    fn lose(&mut self, sample: String) {
        self.wire.close();
        self.ledger.lost += 1;
        self.ledger.sample(sample);
    }

    fn request(&self, due: &str) -> Request<Body> {
        match self.kind {
            Kind::Both if self.number.is_multiple_of(2) => get(due),
            Kind::Gets => get(due),
            Kind::Posts | Kind::Both => request(Method::POST, "/echo", full(Bytes::from(due.to_owned()))),
        }
    }
}

fn get(due: &str) -> Request<Body> {
    request(Method::GET, &format!("/echo?{due}"), empty())
}
