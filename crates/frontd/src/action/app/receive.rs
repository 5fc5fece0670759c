//! Receives the body of a request before a worker is asked for.

use std::cell::LazyCell;
use std::error::Error;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::header::EXPECT;
use http_body::Body as _;
use tracing::{error, warn};

use super::App;
use crate::action::Resources;
use crate::action::reply::Reply;
use crate::backend::pool::{Attempts, Refused};
use crate::body::request::{Incoming, RequestBody, RequestBodyError};
use crate::body::spool::{SpoolBodyError, SpooledBody};
use crate::observe::log_limit::LogLimit;
use crate::visit::Visit;
use crate::visit::client::Client;

/// How many polls it takes to read a body that has already arrived: hyper returns one chunk per poll, then
/// the end.
const MAX_POLLS: usize = 3;

/// Receives the body. If it isn't there yet, the request must be admitted first, since it would be refused
/// after the wait otherwise. The first read sends `100 Continue` to a client that expects it.
pub(super) async fn receive<B: Incoming>(
    resources: &Resources,
    app: &App,
    visit: &Visit<'_>,
    body: &mut RequestBody<B>,
) -> Result<(SpooledBody, Attempts), Reply> {
    let attempts = Attempts::new(app.backend.limits.queue);
    if body.is_end_stream() {
        return Ok((SpooledBody::Inline(Bytes::new()), attempts));
    }
    let mut reading = pin!(collect(resources, app, visit, body));
    if !visit.head.headers.contains_key(EXPECT)
        && let Some(body) = poll_without_waiting(reading.as_mut()).await
    {
        return Ok((body?, attempts));
    }
    let client = visit.client;
    let admitted = app.backend.pool.admit_upload(client.address());
    let _until_it_is_here = admitted.inspect_err(|it| too_many_uploads(app, client, *it))?;
    Ok((reading.await?, attempts.admitted()))
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

/// Receives the whole body before a worker is requested, so that a slow client never occupies a worker.
async fn collect<B: Incoming>(
    resources: &Resources,
    app: &App,
    visit: &Visit<'_>,
    body: &mut RequestBody<B>,
) -> Result<SpooledBody, Reply> {
    // Most bodies aren't spooled.
    let account = LazyCell::new(|| app.account(resources, visit));
    let read = SpooledBody::read(body, app.backend.limits.body, account);
    read.await.map_err(|error| match error {
        SpoolBodyError::TooLarge { .. } => Reply::BodyTooLarge,
        SpoolBodyError::Client(RequestBodyError::TooSlow) => Reply::BodyTimeout,
        SpoolBodyError::Client(RequestBodyError::Broken(_)) => Reply::BadBody,
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
