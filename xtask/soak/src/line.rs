//! Asks one app over one connection, and writes down what came of it.

use std::time::Duration;

use fastrand::Rng;
use tests::client::Answer;
use tests::connection::SendError;
use tests::keep_alive::KeepAlive;
use tokio::sync::watch;
use tokio::time::timeout;

use super::book::Book;
use super::ledger::{Entry, Outcome};
use super::question::Question;
use super::site::App;

/// A request that has no outcome by then is lost: more than the queue and all limits together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests of a line, at most: steady load leaves the machine room for the rest.
const PAUSE_MILLISECONDS: u64 = 20;

/// One client.
pub(crate) struct Line {
    app: App,
    wire: KeepAlive,
    book: Book,
}

impl Line {
    pub(crate) fn new(app: App, wire: KeepAlive, book: Book) -> Self {
        Self { app, wire, book }
    }

    /// Asks on until it is told to stop.
    pub(crate) async fn run(mut self, mut random: Rng, stop: watch::Receiver<bool>) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !*stop.borrow() {
            entries.push(self.ask(Question::any(&mut random)).await);
            tokio::time::sleep(Duration::from_millis(random.u64(..PAUSE_MILLISECONDS))).await;
        }
        entries
    }

    /// Asks once.
    pub(crate) async fn ask(&mut self, question: Question) -> Entry {
        let (id, sent) = (self.book.number(), self.book.now());
        let never = || Outcome::NoResponse(format!("none within {PATIENCE:?}").into());
        let outcome = timeout(PATIENCE, self.exchange(id, question)).await.unwrap_or_else(|_| never());
        if matches!(outcome, Outcome::Cut(_) | Outcome::NoResponse(_)) {
            self.wire.close();
        }
        Entry { id, app: self.app, question, sent, done: self.book.now(), outcome }
    }

    async fn exchange(&mut self, id: u64, question: Question) -> Outcome {
        let mut sent = self.wire.send(question.request(id)).await;
        // As a browser does. That nobody had begun it shows in the journals.
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
