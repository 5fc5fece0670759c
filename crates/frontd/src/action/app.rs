//! Forwards one request to a worker of its app, and the worker's response to the client.

mod headers;
mod sendfile;

use std::cell::LazyCell;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use api::runner::{ExchangeResponse, Header, Request as Message};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tracing::{debug, error, warn};

use self::headers::Arena;
use crate::action::reply::{Failure, Reply, RequestInfo};
use crate::backend::pool::{Attempts, Mode, Refused};
use crate::backend::served_by::ServedBy;
use crate::backend::{BodyCall, Broken, Link, Outcome, Pending, Receiving};
use crate::body::Body;
use crate::body::cut::Cutter;
use crate::body::request::{RequestBody, RequestBodyError};
use crate::body::spool::{
    self, Account, ChannelLimits, PushError, SpoolBodyError, SpooledBody, SpooledReader,
};
use crate::listen::shard::Shard;
use crate::observe::log_limit::LogLimit;
use crate::site::table::{App, StartFailure};
use crate::visit::authority::Authority;
use crate::visit::client::Client;
use crate::visit::request_id::RequestId;
use crate::yield_before_park;

/// How many workers a request may be lost with before it is considered the cause.
const MAX_LOST_WORKERS: u32 = 2;

/// How much longer than the request's limit frontd waits for a worker. A worker enforces the limit itself, so
/// one that is still silent then can't respond.
const WORKER_GRACE: Duration = Duration::from_secs(1);

/// How many polls it takes to read a body that has already arrived: hyper returns one chunk per poll, then
/// the end.
const MAX_POLLS: usize = 3;

/// A complete request, so that it can be sent to several workers in turn.
struct ProxiedRequest<'a> {
    shard: &'a Shard,
    app: &'a App,
    client: &'a Client,
    authority: &'a Authority,
    id: RequestId,
    head: &'a Parts,
    body: SpooledBody,
}

/// What to do with a request after a try.
#[expect(clippy::large_enum_variant, reason = "nearly all are answers, and boxing would allocate for each")]
enum Next {
    /// The worker handed it back: it returns to its old place in the queue.
    Requeue,
    /// The worker was lost with it.
    Retry,
    Answer(Result<Response<Body>, Reply>),
}

/// Forwards a request to a worker of `app`.
///
/// # Errors
///
/// Returns the reply to send instead of a response of the app.
pub(crate) async fn forward(
    shard: &Shard,
    app: &App,
    client: &Client,
    authority: &Authority,
    head: &Parts,
    id: RequestId,
    body: &mut RequestBody,
) -> Result<Response<Body>, Reply> {
    if let Some(failure) = app.failure()
        && shard.mode().is_development()
    {
        let StartFailure { text, next } = failure;
        return Ok(Failure::Start { text, next }.response(&RequestInfo::new(id, head)));
    }
    let (body, attempts) = receive_body(shard, app, client, head, body).await?;
    yield_before_park::app();
    ProxiedRequest { shard, app, client, authority, id, head, body }.run(attempts).await
}

/// Receives the body. If it isn't there yet, the request must be admitted first, since it would be refused
/// after the wait otherwise. The first read sends `100 Continue` to a client that expects it.
async fn receive_body(
    shard: &Shard,
    app: &App,
    client: &Client,
    head: &Parts,
    body: &mut RequestBody,
) -> Result<(SpooledBody, Attempts), Reply> {
    let attempts = Attempts::new(app.limits.queue);
    if body.is_end_stream() {
        return Ok((SpooledBody::Inline(Bytes::new()), attempts));
    }
    let mut reading = pin!(collect(shard, app, client, body));
    if !head.headers.contains_key(EXPECT)
        && let Some(body) = poll_without_waiting(reading.as_mut()).await
    {
        return Ok((body?, attempts));
    }
    let _until_it_is_here =
        app.pool().admit_upload(client.address()).inspect_err(|it| too_many_uploads(app, client, *it))?;
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
async fn collect(
    shard: &Shard,
    app: &App,
    client: &Client,
    body: &mut RequestBody,
) -> Result<SpooledBody, Reply> {
    // Most bodies aren't spooled.
    let account = LazyCell::new(|| account(shard, app, client));
    let read = SpooledBody::read(body, app.limits.body, account);
    read.await.map_err(|error| match error {
        SpoolBodyError::TooLarge { .. } => Reply::BodyTooLarge,
        SpoolBodyError::Client(RequestBodyError::TooSlow) => Reply::BodyTimeout,
        SpoolBodyError::Client(RequestBodyError::Broken(_)) => Reply::BadBody,
        SpoolBodyError::Disk(error) if error.is_full() => {
            static LOGGED: LogLimit = LogLimit::every(30);
            if let Some(withheld) = LOGGED.pass() {
                let client = client.address();
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

/// The quotas that the bodies of an exchange count against in the spool.
fn account(shard: &Shard, app: &App, client: &Client) -> Account {
    Account {
        folder: shard.spool().clone(),
        app: Arc::clone(app.shared_name()),
        client: Arc::clone(client.share()),
        memory: Arc::clone(client.memory()),
    }
}

impl ProxiedRequest<'_> {
    async fn run(&self, mut attempts: Attempts) -> Result<Response<Body>, Reply> {
        let (pool, shard) = (self.app.pool(), self.shard.number());
        let limit = self.app.limits.request.map(|it| it + WORKER_GRACE);
        let mut lost = 0;
        loop {
            let mode = if lost == 0 { Mode::Shared } else { Mode::Exclusive };
            let lease = pool.acquire(shard, mode, &mut attempts).await.map_err(|it| self.refused(it))?;
            let (link, granted) = (Arc::clone(lease.link()), lease.granted());
            let pending = link.begin(lease, limit, self.message());
            match self.attempt(pending, &mut lost).await {
                Next::Requeue => {}
                Next::Retry => attempts.extend(granted.elapsed()),
                Next::Answer(Ok(mut response)) if self.shard.access_log() => {
                    ServedBy::note(link, &mut response);
                    return Ok(response);
                }
                Next::Answer(answer) => return answer,
            }
            self.shard.metrics().retries.inc();
        }
    }

    fn refused(&self, refused: Refused) -> Reply {
        if refused == Refused::HandedBack {
            let Self { app, head, .. } = self;
            warn!(app = app.name(), request = %self.id, method = %head.method, path = head.uri.path(), reason = %refused, "request given up");
        }
        refused.into()
    }

    async fn attempt(&self, mut pending: Pending, lost: &mut u32) -> Next {
        let (mut call, mut hinted) = (None, false);
        let need_body = |link: &Arc<Link>, id, offset| {
            let upload = chunks(self.body.reader_at(offset));
            let link = Arc::clone(link);
            let open = async move { link.bodies().open(id, upload).await };
            call = Some(AbortOnDropHandle::new(self.shard.tasks().spawn(open)));
        };
        let outcome = pending.outcome(need_body, |headers| hinted |= self.send_early_hints(headers)).await;
        if hinted {
            self.client.early_hints().withdraw();
        }
        match outcome {
            Outcome::Response { failure: Some(failure), .. } if self.shard.mode().is_development() => {
                let info = RequestInfo::new(self.id, self.head);
                Next::Answer(Ok(Failure::Request(&failure.traceback).response(&info)))
            }
            Outcome::Response { status, headers, body, streamed, reason, file, failure: _ } => {
                match self.response_head(status, reason, headers) {
                    Err(reply) => Next::Answer(Err(reply)),
                    Ok(response) if let Some(file) = file => {
                        // Boxed because it is rare: the futures of all requests are copied a few times at
                        // their maximum size.
                        let send =
                            sendfile::send(self.app, self.client, self.head, self.id, response, file.file());
                        Next::Answer(Box::pin(send).await)
                    }
                    Ok(response) if self.is_bodiless(response.status()) => Next::Answer(Ok(response)),
                    Ok(response) if let Some(receiving) = streamed => {
                        match Box::pin(self.stream(response, receiving, call, &mut pending)).await {
                            Some(response) => Next::Answer(Ok(response)),
                            // The client has received nothing yet.
                            None => self.handle_lost_worker(self.broken(), pending.worker(), lost),
                        }
                    }
                    Ok(response) => Next::Answer(Ok(inline(response, body))),
                }
            }
            Outcome::HandedBack => Next::Requeue,
            Outcome::TimedOut => Next::Answer(Err(Reply::AppTimeout)),
            Outcome::NoAnswer => Next::Answer(Err(self.too_slow())),
            Outcome::Broken(broken) => self.handle_lost_worker(broken, pending.worker(), lost),
        }
    }

    /// Sends early hints to the client, if its protocol allows that. Returns whether it does.
    fn send_early_hints(&self, headers: Vec<Header>) -> bool {
        // HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
        if self.head.version != Version::HTTP_11 {
            return false;
        }
        match headers::for_client(headers) {
            Ok(headers) => self.client.early_hints().send(&headers),
            Err(_) => {
                warn!(app = self.app.name(), request = %self.id, "the app's early hints aren't valid HTTP");
            }
        }
        true
    }

    /// Decides what happens to a request whose worker was lost. One that hasn't started running is never
    /// lost; one that has is only tried again if its method is safe (RFC 9110, section 9.2.1).
    fn handle_lost_worker(&self, broken: Broken, worker: &str, lost: &mut u32) -> Next {
        let safe = self.head.method.is_safe();
        *lost += u32::from(safe);
        match broken {
            Broken::NotKnownToHaveBegun if *lost < MAX_LOST_WORKERS => Next::Retry,
            _ => {
                let Self { app, head, .. } = self;
                warn!(app = app.name(), worker, request = %self.id, method = %head.method, path = head.uri.path(), "worker lost with the request");
                Next::Answer(Err(Reply::WorkerLost))
            }
        }
    }

    /// What is known about a worker that was lost after it had announced a response.
    fn broken(&self) -> Broken {
        if self.head.method.is_safe() { Broken::NotKnownToHaveBegun } else { Broken::Begun }
    }

    fn too_slow(&self) -> Reply {
        let Self { app, head, .. } = self;
        warn!(app = app.name(), request = %self.id, method = %head.method, path = head.uri.path(), "the worker doesn't respond");
        Reply::AppTimeout
    }

    fn message(&self) -> Message {
        let Self { app, client, authority, head, body, .. } = self;
        let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let length = (!body.is_empty() || headers::announces_body(&head.headers)).then(|| body.len());
        let (body, body_length) = match body {
            SpooledBody::Inline(bytes) => (bytes.clone(), 0),
            SpooledBody::File(_) => (Bytes::new(), body.len()),
        };
        let id = self.id.digits();
        let mut arena = Arena::for_headers(&head.headers, target.len() + id.len());
        Message {
            id: 0,
            method: method(&head.method),
            target: arena.copy(target.as_bytes()),
            version: version(head.version),
            headers: headers::for_app(&head.headers, &authority.text, length, &mut arena),
            body,
            body_length,
            connection: Some(client.connection().clone()),
            script_name: app.mount().clone(),
            server_name: self.server_name(),
            server_port: authority.port.unwrap_or_else(|| client.default_port()).into(),
            request_id: arena.copy(&id),
            limit_milliseconds: self.app.limits.request.map_or(0, milliseconds),
            idle_milliseconds: self.app.limits.idle.map_or(0, milliseconds),
        }
    }

    /// If the client named no host, the address that it connected to: PEP 3333 requires that it isn't empty.
    fn server_name(&self) -> Bytes {
        match &self.authority.host {
            unknown if unknown.is_empty() => self.client.local().to_string().into(),
            host => host.clone(),
        }
    }

    /// Builds the response without its body.
    fn response_head(
        &self,
        status: u32,
        reason: Bytes,
        headers: Vec<Header>,
    ) -> Result<Response<Body>, Reply> {
        let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok());
        let status =
            status.filter(|it| !it.is_informational()).ok_or_else(|| self.bad_response("its status"))?;
        let headers = headers::for_client(headers).map_err(|_| self.bad_response("a header"))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if status == StatusCode::NO_CONTENT {
            // RFC 9110, section 8.6 forbids it, even in a response to HEAD.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        // HTTP/2 has no reason phrase (RFC 9113, section 8.3.2).
        if !reason.is_empty() && self.head.version < Version::HTTP_2 {
            let reason =
                ReasonPhrase::try_from(reason).map_err(|_| self.bad_response("its reason phrase"))?;
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Whether the response has no body (RFC 9110, section 6.4.1).
    fn is_bodiless(&self, status: StatusCode) -> bool {
        self.head.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// Streams a response body. What the client doesn't read in time waits in a file, not in the worker.
    async fn stream(
        &self,
        response: Response<Body>,
        receiving: Receiving,
        call: Option<BodyCall>,
        pending: &mut Pending,
    ) -> Option<Response<Body>> {
        let opened = within(self.app.limits.request, pending.body(call)).await;
        let opened = opened.unwrap_or_else(|| Err(Status::deadline_exceeded("no call for the body in time")));
        let refused = |status: &Status| {
            warn!(app = self.app.name(), request = %self.id, reason = status.message(), "no response body");
        };
        let mut chunks = opened.inspect_err(refused).ok()?;
        let (mut writer, reader) =
            spool::channel(account(self.shard, self.app, self.client), ChannelLimits::default());
        let (app, id) = (self.app.name().to_owned(), self.id);
        self.shard.tasks().spawn(async move {
            let _until_it_ends = receiving;
            loop {
                let message = tokio::select! {
                    message = chunks.message() => message,
                    () = writer.closed() => return debug!(app, request = %id, "client left before the end of the response"),
                };
                match message {
                    Ok(Some(ExchangeResponse { chunk })) => {
                        match writer.push(chunk).await {
                            Ok(()) => {}
                            Err(PushError::Closed) => return debug!(app, request = %id, "client left before the end of the response"),
                            Err(PushError::Disk(error)) => {
                                return error!(app, request = %id, error = &error as &dyn Error, "response was aborted");
                            }
                        }
                    }
                    Ok(None) => return writer.finish(),
                    Err(status) => return warn!(app, request = %id, reason = status.message(), "response was aborted"),
                }
            }
        });
        let cutter = match self.head.version {
            Version::HTTP_2 => Cutter::stream(),
            _ => Cutter::Connection(self.client.connection_cut().clone()),
        };
        Some(response.map(|_| Body::spooled(reader, cutter)))
    }

    fn bad_response(&self, what: &'static str) -> Reply {
        warn!(app = self.app.name(), request = %self.id, "the app's response isn't valid HTTP: {what}");
        Reply::BadResponse
    }
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full | Refused::TooManyUploads | Refused::TimedOut | Refused::HandedBack => {
                Self::Overloaded
            }
            Refused::TooManyUploadsOfClient => Self::TooManyUploads,
            Refused::Failed => Self::AppFailed,
        }
    }
}

fn inline(mut response: Response<Body>, body: Bytes) -> Response<Body> {
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    response.map(|_| Body::full(body))
}

/// The chunks of a request body. If reading fails, the stream ends early, which the worker notices by the
/// length.
fn chunks(reader: SpooledReader) -> impl Stream<Item = Bytes> + Send {
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

fn method(method: &Method) -> Bytes {
    match *method {
        Method::GET => Bytes::from_static(b"GET"),
        Method::POST => Bytes::from_static(b"POST"),
        Method::HEAD => Bytes::from_static(b"HEAD"),
        _ => Bytes::copy_from_slice(method.as_str().as_bytes()),
    }
}

/// Converts to milliseconds. Never returns 0, which means no limit.
fn milliseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn version(version: Version) -> u32 {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        _ => 11,
    }
}

#[cfg(test)]
mod tests;
