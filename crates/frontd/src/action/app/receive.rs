//! Receives the body of a request, or its beginning, before a worker is asked for.

use std::cell::LazyCell;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body::Body as _;
use tracing::{error, warn};

use super::upload::{self, Arriving, Payload};
use super::{App, ProxiedRequest};
use crate::action::Resources;
use crate::action::reply::Reply;
use crate::backend::pool::{Attempts, Refused, Upload};
use crate::body::request::{Incoming, RequestBody, RequestBodyError};
use crate::body::spool::{SpoolBodyError, SpooledBody};
use crate::observe::log_limit::LogLimit;
use crate::visit::Visit;
use crate::visit::client::Client;

/// How many polls it takes to read a body that has already arrived: hyper returns one chunk per poll, then
/// the end.
const MAX_POLLS: usize = 3;

/// Receives the body, or its beginning if the app's workers take it while it arrives. If it isn't there yet, the
/// request must be admitted first, since it would be refused after the wait otherwise. The first read sends `100
/// Continue` to a client that expects it.
pub(super) async fn receive<'a, B: Incoming>(
    resources: &Resources,
    app: &App,
    visit: &Visit<'_>,
    body: &'a mut RequestBody<B>,
) -> Result<(Payload<'a, B>, Attempts), Reply> {
    let attempts = Attempts::new(app.backend.limits.queue);
    if body.is_end_stream() {
        return Ok((Payload::Complete(SpooledBody::Inline(Bytes::new())), attempts));
    }
    // A request with a safe method may be sent to a second worker after a first one has read the body.
    if app.backend.pool.streams_bodies() && !visit.head.method.is_safe() {
        return begin(app, visit, body, attempts).await;
    }
    let mut reading = pin!(collect(resources, app, visit, body));
    if !visit.expects_continue()
        && let Some(body) = poll_without_waiting(reading.as_mut()).await
    {
        return Ok((Payload::Complete(body?), attempts));
    }
    let _until_it_is_here = admit(app, visit.client)?;
    Ok((Payload::Complete(reading.await?), attempts.admitted()))
}

/// Receives what is there of a body.
async fn begin<'a, B: Incoming>(
    app: &App,
    visit: &Visit<'_>,
    body: &'a mut RequestBody<B>,
    attempts: Attempts,
) -> Result<(Payload<'a, B>, Attempts), Reply> {
    let mut arriving = Arriving::new(body, visit, app.backend.limits.body)?;
    let mut reading = pin!(poll_fn(|cx| match arriving.poll_read_ahead(cx) {
        Poll::Pending if !arriving.reads_ahead() => Poll::Ready(None),
        failed => failed.map(Some),
    }));
    if let Some(Some(failure)) = poll_without_waiting(reading.as_mut()).await {
        return Err(failure);
    }
    let mut payload = Payload::Arriving(Box::new(arriving));
    payload.settle();
    if let Payload::Arriving(arriving) = &mut payload {
        arriving.admit(admit(app, visit.client)?);
        return Ok((payload, attempts.admitted()));
    }
    Ok((payload, attempts))
}

/// Receives all of a body that is still arriving: for a worker that takes only complete ones.
pub(super) async fn complete<B: Incoming>(
    request: &ProxiedRequest<'_>,
    payload: &mut Payload<'_, B>,
) -> Result<(), Reply> {
    let Payload::Arriving(arriving) = payload else { return Ok(()) };
    let ProxiedRequest { resources, app, visit } = request;
    *payload = Payload::Complete(collect(resources, app, visit, &mut **arriving).await?);
    Ok(())
}

fn admit(app: &App, client: &Client) -> Result<Upload, Reply> {
    let admitted = app.backend.pool.admit_upload(client.address());
    Ok(admitted.inspect_err(|it| too_many_uploads(app, client, *it))?)
}

/// Returns the result of `reading` if it is available without waiting for the client.
async fn poll_without_waiting<T>(mut reading: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    for poll in 0..MAX_POLLS {
        if poll > 0 {
            tokio::task::yield_now().await;
        }
        if let Poll::Ready(read) = futures_util::poll!(reading.as_mut()) {
            return Some(read);
        }
    }
    None
}

fn too_many_uploads(app: &App, client: &Client, refused: Refused) {
    static LOGGED: LogLimit = LogLimit::every(30);
    if matches!(refused, Refused::TooManyUploads | Refused::TooManyUploadsOfClient)
        && let Some(withheld) = LOGGED.pass()
    {
        warn!(app = app.name(), client = %client.address(), withheld, reason = %refused, "request refused");
    }
}

/// Receives the whole body, so that a slow client doesn't occupy a worker.
async fn collect(
    resources: &Resources,
    app: &App,
    visit: &Visit<'_>,
    body: impl http_body::Body<Data = Bytes, Error = RequestBodyError> + Unpin,
) -> Result<SpooledBody, Reply> {
    // Most bodies aren't spooled.
    let account = LazyCell::new(|| app.account(resources, visit));
    let read = SpooledBody::read(body, app.backend.limits.body, account);
    read.await.map_err(|error| match error {
        SpoolBodyError::TooLarge { .. } => Reply::BodyTooLarge,
        SpoolBodyError::Client(error) => upload::refusal(&error),
        SpoolBodyError::Disk(error) if error.is_full() => {
            static LOGGED: LogLimit = LogLimit::every(30);
            if let Some(withheld) = LOGGED.pass() {
                let client = visit.client.address();
                warn!(app = app.name(), %client, withheld, error = &error as &dyn Error, "request body refused");
            }
            if error.is_of_client() { Reply::TooManyUploads } else { Reply::Overloaded }
        }
        SpoolBodyError::Disk(error) => {
            error!(app = app.name(), error = &error as &dyn Error, "request body not accepted");
            Reply::Internal
        }
    })
}
