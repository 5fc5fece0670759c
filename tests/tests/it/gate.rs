//! Holds a request inside of an app until the test lets it go on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::Method;
use tests::client::{Answer, Client, empty, request};
use tests::wait::until;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// A request to the bare app's `/gated`, and the two files through which app and test speak.
pub(crate) struct Gate {
    record: PathBuf,
    gate: PathBuf,
    answer: JoinHandle<anyhow::Result<Answer>>,
}

impl Gate {
    /// Sends a GET that the app will not answer before the gate is opened.
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

    /// Waits until the app has begun the request so many times, and tells by which processes.
    pub(crate) async fn begun(&self, times: usize) -> anyhow::Result<Vec<u32>> {
        until("the app has begun the request", async || {
            let pids = self.pids()?;
            Ok((pids.len() >= times).then_some(pids))
        })
        .await
    }

    /// Which processes have begun it so far.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        pids(&self.record)
    }

    /// Lets the app answer.
    pub(crate) fn open(&self) -> anyhow::Result<()> {
        fs::write(&self.gate, "").context("open the gate")
    }

    /// Whether the client has its answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// What the client was answered.
    pub(crate) async fn answer(self) -> anyhow::Result<Answer> {
        self.answer.await?
    }

    /// Waits for the answer of a gate that stays closed; tells which processes had begun it, too.
    pub(crate) async fn end(self) -> anyhow::Result<(Vec<u32>, Answer)> {
        let record = self.record.clone();
        let answer = self.answer.await??;
        Ok((pids(&record)?, answer))
    }

    /// Opens the gate, and tells which process answered.
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
