//! The client's half of an exchange.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::runner::{ExchangeResponse, Header};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::Link;
use super::outcome::{Broken, Event, Outcome, Uploading};

/// The call that carries the bodies of an exchange.
#[derive(Debug)]
pub(crate) enum BodyCall {
    /// Dropping this cancels the call.
    OfComplete(AbortOnDropHandle<Result<Streaming<ExchangeResponse>, Status>>),
    /// Ends by itself once its body breaks off. The worker would take a body whose call is cancelled for complete.
    OfUpload(JoinHandle<Result<Streaming<ExchangeResponse>, Status>>),
}

/// The client's half of an exchange. If it is dropped before the worker has answered, the worker is told that
/// the client left.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) events: oneshot::Receiver<Event>,
    pub(super) settled: bool,
}

/// What a worker reports about an exchange. Nothing follows an outcome.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It has started, and needs the request's body from this offset on, in bytes.
    NeedBody(u64),
    EarlyHints(Vec<Header>),
    Settled(Outcome),
}

impl Pending {
    /// Ready with what the worker reports next.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        let event = ready!(Pin::new(&mut self.events).poll(cx));
        Poll::Ready(match event.unwrap_or(Event::Settled(Outcome::Broken(Broken::Begun))) {
            Event::NeedBody(offset, next) => {
                self.events = next;
                Progress::NeedBody(offset)
            }
            Event::EarlyHints(headers, next) => {
                self.events = next;
                Progress::EarlyHints(headers)
            }
            Event::Settled(outcome) => {
                self.settled =
                    !matches!(outcome, Outcome::Response { streamed: Some(_), .. } | Outcome::NoAnswer);
                Progress::Settled(outcome)
            }
        })
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.link.worker()
    }

    /// The link to the worker, and the exchange's id on it.
    pub(crate) fn exchange(&self) -> (&Arc<Link>, u64) {
        (&self.link, self.id)
    }

    /// Records that the request's body is being sent while it arrives: until the returned value is dropped, the
    /// client may be the cause if there is no response.
    pub(crate) fn uploading(&self) -> Uploading {
        Uploading::new(Arc::clone(&self.link), self.id)
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
            Some(BodyCall::OfComplete(call)) => call.await.unwrap_or_else(|_| Err(ended())),
            Some(BodyCall::OfUpload(call)) => call.await.unwrap_or_else(|_| Err(ended())),
            None => self.link.bodies().open(self.id, tokio_stream::empty()).await,
        };
        self.settled = stream.is_ok();
        stream
    }
}

fn ended() -> Status {
    Status::cancelled("the call ended with its shard")
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.settled {
            self.link.cancel(self.id);
        }
    }
}
