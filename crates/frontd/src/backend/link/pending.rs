//! The client's half of an exchange.

use std::sync::Arc;

use api::runner::{ExchangeResponse, Header};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::Link;
use super::outcome::{Broken, Event, Outcome};

/// The call that carries the bodies of an exchange.
pub(crate) type BodyCall = AbortOnDropHandle<Result<Streaming<ExchangeResponse>, Status>>;

/// The client's half of an exchange. If it is dropped before the worker has answered, the worker is told that
/// the client left.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) events: oneshot::Receiver<Event>,
    pub(super) settled: bool,
}

impl Pending {
    /// Waits for the outcome. Calls `need_body` when the worker asks for the request body, and `early_hints`
    /// for each batch of early hints.
    pub(crate) async fn outcome(
        &mut self,
        mut need_body: impl FnMut(&Arc<Link>, u64, u64),
        mut early_hints: impl FnMut(Vec<Header>),
    ) -> Outcome {
        loop {
            match (&mut self.events).await.unwrap_or(Event::Settled(Outcome::Broken(Broken::Begun))) {
                Event::NeedBody(offset, next) => {
                    self.events = next;
                    need_body(&self.link, self.id, offset);
                }
                Event::EarlyHints(headers, next) => {
                    self.events = next;
                    early_hints(headers);
                }
                Event::Settled(outcome) => {
                    self.settled =
                        !matches!(outcome, Outcome::Response { streamed: Some(_), .. } | Outcome::NoAnswer);
                    return outcome;
                }
            }
        }
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.link.worker()
    }

    /// Returns the stream of a response body: from the call that carried the request body, or from a new one.
    /// From then on, dropping the stream tells the worker that the client left.
    ///
    /// # Errors
    ///
    /// Returns an error if the worker is gone.
    pub(crate) async fn body(
        &mut self,
        call: Option<BodyCall>,
    ) -> Result<Streaming<ExchangeResponse>, Status> {
        let stream = match call {
            Some(call) => call.await.map_err(|_| Status::cancelled("the call ended with its shard"))?,
            None => self.link.bodies().open(self.id, tokio_stream::empty()).await,
        };
        self.settled = stream.is_ok();
        stream
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.settled {
            self.link.cancel(self.id);
        }
    }
}
