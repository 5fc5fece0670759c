//! Streams bodies that don't fit into a message, in both directions.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::time::Duration;

use api::runner::ExchangeResponse;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{Response, Version};
use tokio_stream::Stream;
use tonic::Status;
use tracing::{debug, error, warn};

use super::ProxiedRequest;
use super::trailers;
use super::upload::Sending;
use crate::action::reply::Reply;
use crate::backend::{BodyCall, Pending, Receiving};
use crate::body::Body;
use crate::body::cut::Cutter;
use crate::body::spool::{self, ChannelLimits, PushError, SpooledReader};

impl ProxiedRequest<'_> {
    /// Streams a response body. What the client doesn't read in time waits in a file, not in the worker.
    pub(super) async fn stream(
        &self,
        response: Response<Body>,
        receiving: Receiving,
        call: Option<BodyCall>,
        mut sending: Option<Sending>,
        pending: &mut Pending,
    ) -> Result<Option<Response<Body>>, Reply> {
        let opened = within(self.app.backend.limits.request, pending.body(call)).await;
        let opened = opened.unwrap_or_else(|| Err(Status::deadline_exceeded("no call for the body in time")));
        let refused = |status: &Status| {
            warn!(app = self.app.name(), request = %self.visit.id, reason = status.message(), "no response body");
        };
        let mut chunks = match opened {
            Ok(chunks) => chunks,
            // The call ends with the body of the request.
            Err(_) if let Some(reply) = sending.as_mut().and_then(Sending::failure) => return Err(reply),
            Err(status) => {
                refused(&status);
                return Ok(None);
            }
        };
        let account = self.app.account(self.resources, self.visit);
        let (mut writer, reader) = spool::channel(account, ChannelLimits::default());
        let (app, id) = (self.app.name().to_owned(), self.visit.id);
        let takes_trailers = trailers::are_accepted(&self.visit.head);
        self.resources.tasks.spawn(async move {
            let mut unfinished = Unfinished(Some(receiving));
            loop {
                let message = tokio::select! {
                    message = chunks.message() => message,
                    () = writer.closed() => return debug!(app, request = %id, "client left before the end of the response"),
                    reply = upload_failed(&mut sending) => {
                        return warn!(app, request = %id, reason = reply.name(), "response was aborted: its request's body broke off");
                    }
                };
                match message {
                    Ok(Some(ExchangeResponse { chunk, trailers })) => {
                        if takes_trailers && !trailers.is_empty() {
                            writer.add_trailers(trailers::for_client(&app, trailers));
                        }
                        match writer.push(chunk).await {
                            Ok(()) => {}
                            Err(PushError::Closed) => return debug!(app, request = %id, "client left before the end of the response"),
                            Err(PushError::Disk(error)) => {
                                return error!(app, request = %id, error = &error as &dyn Error, "response was aborted");
                            }
                        }
                    }
                    Ok(None) => {
                        unfinished.0 = None;
                        return writer.finish();
                    }
                    Err(status) => return warn!(app, request = %id, reason = status.message(), "response was aborted"),
                }
            }
        });
        let cutter = match self.visit.head.version {
            Version::HTTP_2 => Cutter::stream(),
            _ => Cutter::Connection(self.visit.client.connection_cut().clone()),
        };
        let mut response = response.map(|_| Body::spooled(reader, cutter));
        if self.visit.head.version < Version::HTTP_2 && response.headers().contains_key(CONTENT_LENGTH) {
            // Only a chunked body has trailers.
            response.headers_mut().remove(TRAILER);
        }
        Ok(Some(response))
    }
}

/// A response body that isn't complete. If it is dropped, the worker is told at once that nobody wants the rest.
struct Unfinished(Option<Receiving>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(receiving) = &self.0 {
            receiving.cancel();
        }
    }
}

/// Waits until the body of the request breaks off.
async fn upload_failed(sending: &mut Option<Sending>) -> Reply {
    match sending {
        Some(sending) => poll_fn(|cx| sending.poll_failed(cx)).await,
        None => pending().await,
    }
}

/// The chunks of a request body. If reading fails, the stream ends early, which the worker notices by the
/// length.
pub(super) fn chunks(reader: SpooledReader) -> impl Stream<Item = Bytes> + Send {
    futures_util::stream::unfold(reader, async |mut reader| match reader.next().await {
        Ok(chunk) => chunk.map(|it| (it, reader)),
        Err(error) => {
            error!(error = &error as &dyn Error, "request body cut");
            None
        }
    })
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}
