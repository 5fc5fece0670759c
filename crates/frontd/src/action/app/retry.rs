//! Sends a request to one worker after another, until one answers it.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{ProxiedRequest, sendfile, stream, wire};
use crate::action::reply::{Failure, Reply};
use crate::backend::pool::{Attempts, Isolation, Refused};
use crate::backend::served_by::ServedBy;
use crate::backend::{Backend, Broken, Link, Outcome, Pending};
use crate::body::Body;
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
    /// Sends the request to workers until one answers it, or until it is given up.
    pub(super) async fn run(&self, mut attempts: Attempts) -> Result<Response<Body>, Reply> {
        let Backend { pool, limits, .. } = &self.app.backend;
        let limit = limits.request.map(|it| it + WORKER_GRACE);
        let mut lost = 0;
        loop {
            let isolation = if lost == 0 { Isolation::Shared } else { Isolation::Exclusive };
            let lease = pool
                .acquire(self.resources.shard, isolation, &mut attempts)
                .await
                .map_err(|it| self.refused(it))?;
            let (link, granted) = (Arc::clone(lease.link()), lease.granted());
            let pending = link.begin(lease, limit, self.message());
            match self.attempt(pending, &mut lost).await {
                Next::Requeue => {}
                Next::Retry => attempts.extend(granted.elapsed()),
                Next::Answer(Ok(mut response)) if self.visit.access.is_some() => {
                    ServedBy::note(link, &mut response);
                    return Ok(response);
                }
                Next::Answer(answer) => return answer,
            }
            self.resources.metrics.retries.inc();
        }
    }

    fn refused(&self, refused: Refused) -> Reply {
        if refused == Refused::HandedBack {
            let Visit { id, head, .. } = self.visit;
            warn!(app = self.app.name(), request = %id, method = %head.method, path = head.uri.path(), reason = %refused, "request given up");
        }
        refused.into()
    }

    async fn attempt(&self, mut pending: Pending, lost: &mut u32) -> Next {
        let (mut call, mut hinted) = (None, false);
        let need_body = |link: &Arc<Link>, id, offset| {
            let upload = stream::chunks(self.body.reader_at(offset));
            let link = Arc::clone(link);
            let open = async move { link.bodies().open(id, upload).await };
            call = Some(AbortOnDropHandle::new(self.resources.tasks.spawn(open)));
        };
        let outcome = pending.outcome(need_body, |headers| hinted |= self.send_early_hints(headers)).await;
        if hinted {
            self.visit.client.early_hints().withdraw();
        }
        match outcome {
            Outcome::Response { failure: Some(failure), .. } if self.resources.mode.is_development() => {
                Next::Answer(Ok(Failure::Request(&failure.traceback).response(&self.visit.info())))
            }
            Outcome::Response { status, headers, body, streamed, reason, file, failure: _ } => {
                match self.response_head(status, reason, headers) {
                    Err(reply) => Next::Answer(Err(reply)),
                    Ok(response) if let Some(file) = file => {
                        // Boxed because it is rare: the futures of all requests are copied a few times at
                        // their maximum size.
                        let send = sendfile::send(self.app, self.visit, response, file.file());
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
                    Ok(response) => Next::Answer(Ok(wire::inline(response, body))),
                }
            }
            Outcome::HandedBack => Next::Requeue,
            Outcome::TimedOut => Next::Answer(Err(Reply::AppTimeout)),
            Outcome::NoAnswer => Next::Answer(Err(self.too_slow())),
            Outcome::Broken(broken) => self.handle_lost_worker(broken, pending.worker(), lost),
        }
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
