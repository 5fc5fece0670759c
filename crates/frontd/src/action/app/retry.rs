//! Sends a request to one worker after another, until one answers it.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::headers::TrailerNames;
use super::sticky::{self, Affinity};
use super::upload::Payload;
use super::{ProxiedRequest, receive, sendfile, stream, trailers, wire};
use crate::action::reply::{Failure, Reply};
use crate::backend::pool::{Attempts, Isolation, Lease, Refused};
use crate::backend::served_by::ServedBy;
use crate::backend::{BodyCall, Broken, Link, Outcome, Pending, Progress, Receiving};
use crate::body::Body;
use crate::body::request::Incoming;
use crate::body::spool::SpooledBody;
use crate::observe::log_limit::LogLimit;
use crate::visit::Visit;

/// How many workers a request may be lost with before it is considered the cause.
const MAX_LOST_WORKERS: u32 = 2;

/// How much longer than the request's limit frontd waits for a worker. A worker enforces the limit itself, so
/// one that is still silent then can't respond.
const WORKER_GRACE: Duration = Duration::from_secs(1);

/// What to do with a request after a try.
#[expect(clippy::large_enum_variant, reason = "nearly all are answers, and boxing would allocate for each")]
enum Next {
    /// The worker handed it back: it returns to its old place in the queue.
    Requeue,
    /// The worker was lost with it.
    Retry,
    Answer(Result<Response<Body>, Reply>),
}

impl ProxiedRequest<'_> {
    /// Browsers don't show the page of a refused handshake, so a developer is told in the log.
    fn warn_of_websocket(&self) {
        static REFUSED: LogLimit = LogLimit::new();
        if self.resources.mode.is_development() && REFUSED.pass().is_some() {
            let path = self.visit.head.uri.path();
            warn!(
                app = self.app.name(),
                path, "refused a WebSocket: only ASGI apps accept them, and this is a WSGI app"
            );
        }
    }

    /// Sends the request to workers until one answers it, or until it is given up.
    pub(super) async fn run<B: Incoming>(
        &self,
        mut payload: Payload<'_, B>,
        mut attempts: Attempts,
    ) -> Result<Response<Body>, Reply> {
        let limit = self.app.backend.limits.request.map(|it| it + WORKER_GRACE);
        let mut lost = 0;
        loop {
            payload.settle();
            let isolation = if lost == 0 { Isolation::Shared } else { Isolation::Exclusive };
            let lease = match &mut payload {
                Payload::Complete(_) => self.acquire(isolation, &mut attempts).await?,
                // Boxed because it is rare.
                payload => {
                    let acquiring = Box::pin(self.acquire(isolation, &mut attempts));
                    unless_failed(payload, acquiring).await??
                }
            };
            payload.settle();
            if self.visit.websocket.is_some() && !lease.allows_socket() {
                self.warn_of_websocket();
                return Err(Reply::NoWebSockets);
            }
            let (link, granted) = (Arc::clone(lease.link()), lease.granted());
            let instance = lease.instance();
            if matches!(payload, Payload::Arriving(_)) && !link.streams_bodies() {
                // The worker is for others meanwhile.
                drop(lease);
                Box::pin(receive::complete(self, &mut payload)).await?;
                attempts.extend(granted.elapsed());
                continue;
            }
            if let Payload::Sending(_) = payload {
                return Err(self.body_is_gone());
            }
            let pending = link.begin(lease, limit, self.message(&mut payload));
            match self.attempt(pending, &mut payload, &mut lost).await {
                Next::Requeue => {}
                Next::Retry => attempts.extend(granted.elapsed()),
                Next::Answer(Ok(mut response)) => {
                    self.keep_client(instance, &mut response);
                    if self.visit.access.is_some() {
                        ServedBy::note(link, &mut response);
                    }
                    return Ok(response);
                }
                Next::Answer(refused) => return refused,
            }
            self.resources.metrics.retries.inc();
        }
    }

    /// If the app is sticky, has the client come back to the worker that has served it.
    fn keep_client(&self, instance: u64, response: &mut Response<Body>) {
        let ProxiedRequest { app, visit, .. } = self;
        let is_known = |it: NonZeroU64| it.get() == instance;
        if app.affinity == Affinity::Cookie
            && !app.affinity.preferred(&visit.head.headers).is_some_and(is_known)
        {
            let is_tls = visit.client.connection().tls;
            sticky::set_cookie(response.headers_mut(), instance, &app.mount, is_tls);
        }
    }

    async fn acquire(
        &self,
        isolation: Isolation,
        attempts: &mut Attempts,
    ) -> Result<Lease<Arc<Link>>, Reply> {
        attempts.prefer(self.app.affinity.preferred(&self.visit.head.headers));
        let acquired = self.app.backend.pool.acquire(self.resources.shard, isolation, attempts).await;
        acquired.map_err(|it| self.refused(it))
    }

    fn refused(&self, refused: Refused) -> Reply {
        if refused == Refused::HandedBack {
            let Visit { id, head, .. } = self.visit;
            warn!(app = self.app.name(), request = %id, method = %head.method, path = head.uri.path(), reason = %refused, "request given up");
        }
        static LOGGED: LogLimit = LogLimit::every(30);
        if refused == Refused::NoSocketRoom
            && let Some(withheld) = LOGGED.pass()
        {
            warn!(app = self.app.name(), withheld, reason = %refused, "WebSocket refused: raise concurrency or workers");
        }
        refused.into()
    }

    async fn attempt<B: Incoming>(
        &self,
        mut pending: Pending,
        payload: &mut Payload<'_, B>,
        lost: &mut u32,
    ) -> Next {
        let (mut call, mut hinted) = (None, false);
        let outcome = loop {
            let progress = poll_fn(|cx| match pending.poll_progress(cx) {
                Poll::Ready(progress) => Poll::Ready(Ok(progress)),
                Poll::Pending => payload.poll_failed(cx).map(Err),
            });
            match progress.await {
                Err(reply) => return Next::Answer(Err(reply)),
                Ok(Progress::EarlyHints(headers)) => hinted |= self.send_early_hints(headers),
                Ok(Progress::NeedBody(offset)) => match self.send_body(&pending, payload, offset) {
                    Some(opened) => call = Some(opened),
                    None => return Next::Answer(Err(self.body_is_gone())),
                },
                Ok(Progress::Settled(outcome)) => break outcome,
            }
        };
        if hinted {
            self.visit.client.early_hints().withdraw();
        }
        match outcome {
            Outcome::Response { failure: Some(failure), .. } if self.resources.mode.is_development() => {
                Next::Answer(Ok(Failure::Request(&failure.traceback).response(&self.visit.info())))
            }
            Outcome::Response { status, .. } if self.would_accept_socket(status) => {
                Next::Answer(Err(self.bad_response("its status accepts a WebSocket")))
            }
            Outcome::Response { status, headers, body, streamed, reason, file, failure: _ } => {
                // Only a streamed body has trailers.
                let has_trailers = streamed.is_some() && trailers::are_accepted(&self.visit.head);
                let names = if has_trailers { TrailerNames::Keep } else { TrailerNames::Omit };
                match self.response_head(status, reason, headers, names) {
                    Err(reply) => Next::Answer(Err(reply)),
                    Ok(response) if let Some(file) = file => {
                        // Boxed because it is rare: the futures of all requests are copied a few times at
                        // their maximum size.
                        let send = sendfile::send(self.app, self.visit, response, file.file());
                        Next::Answer(Box::pin(send).await)
                    }
                    Ok(response) if self.is_bodiless(response.status()) => Next::Answer(Ok(response)),
                    Ok(response) if let Some(receiving) = streamed => {
                        let streaming =
                            self.stream_both_ways(response, receiving, call, payload, &mut pending);
                        match Box::pin(streaming).await {
                            Ok(Some(response)) => Next::Answer(Ok(response)),
                            // The client has received nothing yet.
                            Ok(None) => self.handle_lost_worker(self.broken(), pending.worker(), lost),
                            Err(reply) => Next::Answer(Err(reply)),
                        }
                    }
                    Ok(response) => Next::Answer(Ok(wire::inline(response, body))),
                }
            }
            Outcome::Socket { headers, socket } => Next::Answer(self.accept_socket(headers, socket)),
            Outcome::HandedBack => Next::Requeue,
            Outcome::TimedOut => Next::Answer(Err(Reply::AppTimeout)),
            Outcome::NoAnswer => Next::Answer(Err(self.too_slow())),
            Outcome::Broken(broken) => self.handle_lost_worker(broken, pending.worker(), lost),
        }
    }

    /// Opens the call that carries the body from `offset` on, in bytes. `None` if the body can't be sent again.
    fn send_body<B: Incoming>(
        &self,
        pending: &Pending,
        payload: &mut Payload<'_, B>,
        offset: u64,
    ) -> Option<BodyCall> {
        let tasks = &self.resources.tasks;
        let (link, id) = pending.exchange();
        let link = Arc::clone(link);
        match payload {
            Payload::Complete(body) => {
                let upload = stream::chunks(body.reader_at(offset));
                let open = async move { link.bodies().open(id, upload).await };
                Some(BodyCall::OfComplete(AbortOnDropHandle::new(tasks.spawn(open))))
            }
            Payload::Arriving(arriving) => {
                let (outgoing, sending) = arriving.send(offset, pending.uploading(), tasks.clone());
                let open = async move { link.bodies().open_for_upload(id, outgoing).await };
                *payload = Payload::Sending(sending);
                Some(BodyCall::OfUpload(tasks.spawn(open)))
            }
            Payload::Sending(_) => None,
        }
    }

    /// Streams a response. If the body of its request hasn't been sent, it is from now on, since an async app may read
    /// it while it responds.
    async fn stream_both_ways<B: Incoming>(
        &self,
        response: Response<Body>,
        receiving: Receiving,
        mut call: Option<BodyCall>,
        payload: &mut Payload<'_, B>,
        pending: &mut Pending,
    ) -> Result<Option<Response<Body>>, Reply> {
        if let Payload::Arriving(arriving) = payload {
            if arriving.expects_continue() {
                arriving.start_reading().await?;
            }
            let sent = arriving.sent();
            call = self.send_body(pending, payload, sent);
        } else if let Payload::Complete(SpooledBody::File(_)) = payload
            && call.is_none()
            && pending.exchange().0.streams_bodies()
        {
            call = self.send_body(pending, payload, 0);
        }
        let sending = match payload {
            Payload::Sending(sending) => Some(sending.take()),
            Payload::Complete(_) | Payload::Arriving(_) => None,
        };
        self.stream(response, receiving, call, sending, pending).await
    }

    /// The worker wants a body again, or hands back a request, although it had started it.
    fn body_is_gone(&self) -> Reply {
        let Visit { id, head, .. } = self.visit;
        warn!(app = self.app.name(), request = %id, method = %head.method, path = head.uri.path(), "a worker that had started a request wanted to start it again");
        Reply::WorkerLost
    }

    /// Decides what happens to a request whose worker was lost. One that hasn't started running is never
    /// lost; one that has is only tried again if its method is safe (RFC 9110, section 9.2.1).
    fn handle_lost_worker(&self, broken: Broken, worker: &str, lost: &mut u32) -> Next {
        let safe = self.visit.head.method.is_safe();
        *lost += u32::from(safe);
        match broken {
            Broken::NotKnownToHaveBegun if *lost < MAX_LOST_WORKERS => Next::Retry,
            _ => {
                let Visit { id, head, .. } = self.visit;
                warn!(app = self.app.name(), worker, request = %id, method = %head.method, path = head.uri.path(), "worker lost with the request");
                Next::Answer(Err(Reply::WorkerLost))
            }
        }
    }

    /// What is known about a worker that was lost after it had announced a response.
    fn broken(&self) -> Broken {
        if self.visit.head.method.is_safe() { Broken::NotKnownToHaveBegun } else { Broken::Begun }
    }

    fn too_slow(&self) -> Reply {
        let Visit { id, head, .. } = self.visit;
        warn!(app = self.app.name(), request = %id, method = %head.method, path = head.uri.path(), "the worker doesn't respond");
        Reply::AppTimeout
    }
}

/// Runs `work`, unless the body breaks off before it is done.
async fn unless_failed<T, B: Incoming>(
    payload: &mut Payload<'_, B>,
    mut work: Pin<Box<impl Future<Output = T>>>,
) -> Result<T, Reply> {
    let with_body = |cx: &mut Context<'_>| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => payload.poll_failed(cx).map(Err),
    };
    poll_fn(with_body).await
}
