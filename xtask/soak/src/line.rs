//! Sends requests to an app over a connection, and records their outcomes.

use std::time::Duration;

use fastrand::Rng;
use tests::client::Answer;
use tests::connection::SendError;
use tests::keep_alive::KeepAlive;
use tokio::sync::watch;
use tokio::time::timeout;

use super::book::Book;
use super::ledger::Entry;
use super::outcome::Outcome;
use super::question::Question;
use super::site::App;

/// A request without a response counts as lost after this time: more than the queue and all limits together.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause between two requests: the load must leave CPU time for everything else.
const PAUSE_MILLISECONDS: u64 = 20;

/// A client.
pub(crate) struct Line {
    app: App,
    wire: KeepAlive,
    book: Book,
}

impl Line {
    pub(crate) fn new(app: App, wire: KeepAlive, book: Book) -> Self {
        Self { app, wire, book }
    }

    /// Sends requests until it is stopped.
    pub(crate) async fn run(mut self, mut random: Rng, stop: watch::Receiver<bool>) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !*stop.borrow() {
            entries.push(self.ask(Question::any(self.app, &mut random)).await);
            tokio::time::sleep(Duration::from_millis(random.u64(..PAUSE_MILLISECONDS))).await;
        }
        entries
    }

    /// Sends one request.
    pub(crate) async fn ask(&mut self, question: Question) -> Entry {
        let (id, sent) = (self.book.number(), self.book.now());
        let never = || Outcome::NoResponse(format!("none within {TIMEOUT:?}").into());
        let outcome = timeout(TIMEOUT, self.exchange(id, question)).await.unwrap_or_else(|_| never());
        if matches!(outcome, Outcome::Cut(_) | Outcome::NoResponse(_)) {
            self.wire.close();
        }
        Entry { id, app: self.app, question, sent, done: self.book.now(), outcome }
    }

    async fn exchange(&mut self, id: u64, question: Question) -> Outcome {
        let mut sent = self.wire.send(question.request(id)).await;
        // Retries like a browser. The journals show that the request hadn't been started.
        while sent.as_ref().is_err_and(was_refused) {
            self.wire.close();
            sent = self.wire.send(question.request(id)).await;
        }
        match sent {
            Err(error) => Outcome::NoResponse(format!("{error:#}").into()),
            Ok(response) => match Answer::read(response).await {
                Err(error) => Outcome::Cut(format!("{error:#}").into()),
                Ok(answer) => question.judge(id, &answer),
            },
        }
    }
}

fn was_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SendError::Refused(_)))
}
