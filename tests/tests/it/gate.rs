//! Keeps a request running in an app until the test releases it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::Method;
use tests::client::{Answer, Client, empty, request};
use tests::wait::until;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// A request to `/gated` of the plain app, with the files for communication between app and test.
pub(crate) struct Gate {
    record: PathBuf,
    gate: PathBuf,
    answer: JoinHandle<anyhow::Result<Answer>>,
}

impl Gate {
    /// Sends a GET that the app answers only after the gate was opened.
    pub(crate) fn get(client: &Client, folder: &Path) -> Self {
        Self::send(client, folder, Method::GET)
    }

    /// Sends a request of any method.
    pub(crate) fn send(client: &Client, folder: &Path, method: Method) -> Self {
        let name = format!("gate-{:016x}", fastrand::u64(..));
        let (record, gate) = (folder.join(format!("{name}.record")), folder.join(format!("{name}.open")));
        let path = format!("/gated?record={}&gate={}", record.display(), gate.display());
        let (client, request) = (client.clone(), request(method, &path, empty()));
        let answer = TaskTracker::new().spawn(async move { client.send(request).await });
        Self { record, gate, answer }
    }

    /// Waits until the app has started the request that many times. Returns the pids.
    pub(crate) async fn begun(&self, times: usize) -> anyhow::Result<Vec<u32>> {
        until("the app has begun the request", async || {
            let pids = self.pids()?;
            Ok((pids.len() >= times).then_some(pids))
        })
        .await
    }

    /// The pids of the processes that have started it so far.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        pids(&self.record)
    }

    /// Lets the app respond.
    pub(crate) fn open(&self) -> anyhow::Result<()> {
        fs::write(&self.gate, "").context("open the gate")
    }

    /// Whether the client has received its response.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// The response.
    pub(crate) async fn answer(self) -> anyhow::Result<Answer> {
        self.answer.await?
    }

    /// Waits for the response without opening the gate. Also returns the pids of the processes that had
    /// started it.
    pub(crate) async fn end(self) -> anyhow::Result<(Vec<u32>, Answer)> {
        let record = self.record.clone();
        let answer = self.answer.await??;
        Ok((pids(&record)?, answer))
    }

    /// Opens the gate. Returns the pid of the process that responded.
    pub(crate) async fn pass(self) -> anyhow::Result<u32> {
        self.open()?;
        Ok(self.answer().await?.expect(200)?.text().trim().parse()?)
    }
}

fn pids(record: &Path) -> anyhow::Result<Vec<u32>> {
    let record = fs::read_to_string(record).unwrap_or_default();
    let pids = record.lines().filter_map(|line| line.strip_prefix("begun "));
    pids.map(|pid| pid.parse().with_context(|| format!("read {record:?}"))).collect()
}
