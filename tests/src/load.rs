//! Verified load: each response is checked by its content, and every request is accounted for.

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

/// The pause between two requests of a connection, which keeps the load steady and the machine responsive.
const PAUSE: Duration = Duration::from_millis(2);
/// A slower response counts as lost. This is less than the servers' own limits of 30 s and more, which could
/// hide a hang.
const TIMEOUT: Duration = Duration::from_secs(25);
const SAMPLES: usize = 5;

/// The requests to `/echo` of the plain WSGI app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GET, which may be retried.
    Gets,
    /// POST, which may not be retried once it was started.
    Posts,
    /// Connections alternate between GET and POST.
    Both,
}

/// How long a connection of the load lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// Until the server closes it.
    Kept,
    /// For one request.
    OneRequest,
}

/// Load that continues until `finish`.
pub struct Load {
    stop: watch::Sender<bool>,
    right: Arc<AtomicU64>,
    connections: JoinSet<Ledger>,
}

/// The outcomes of all requests.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Requests that were written to a connection.
    pub sent: u64,
    /// Responses with status 200 and the expected content.
    pub right: u64,
    /// Responses with another status, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Responses with status 200 and wrong content.
    pub wrong: u64,
    /// Requests without a response, or with one that was cut off.
    pub lost: u64,
    /// The number of connections that were opened, including reopened ones.
    pub connections: u64,
    /// The duration of the slowest correct response.
    pub longest: Duration,
    /// Descriptions of some failures.
    pub samples: Vec<String>,
}

impl Load {
    /// Starts load over `connections` keep-alive connections.
    #[must_use]
    pub fn start(client: &Client, connections: usize, kind: Kind) -> Self {
        Self::over(client, kind, (0..connections).map(|_| Lasts::Kept))
    }

    /// Starts load over `connections` keep-alive connections, and over as many that are opened anew for each
    /// request.
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

    /// Waits for that many more correct responses.
    ///
    /// # Errors
    /// If that takes far too long.
    pub async fn flows(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.right.load(Ordering::Relaxed) + more;
        until("load is answered", async || Ok((self.right.load(Ordering::Relaxed) >= goal).then_some(())))
            .await
    }

    /// Ends the load once all requests have completed.
    ///
    /// # Errors
    /// If a task of the load panicked.
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
    /// Checks that all requests got correct responses.
    ///
    /// # Errors
    /// If one didn't, or there was hardly any load. The error contains all outcomes.
    pub fn all_right(&self) -> anyhow::Result<()> {
        ensure!(self.right == self.sent && self.sent > 20, "requests failed: {self:#?}");
        Ok(())
    }

    /// The number of responses with that status.
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

/// A connection of the load, or a sequence of connections.
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
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(answer)) => self.judge(due, &answer, begun.elapsed()),
            Ok(Err(error)) => self.lose(format!("{due}: {error:#}")),
            Err(_) => self.lose(format!("{due}: no answer within {TIMEOUT:?}")),
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
