//! One shard's link to one worker: the stream that carries its exchanges.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::runner::runner_service_client::RunnerServiceClient;
use api::runner::{
    Cancel, FileOpened, Open, Recall, Request, ServeRequest, ServeResponse, Welcome, serve_request,
    serve_response,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::exchange::{Entry, Exchanges, Pending, Rest, Watch};
use super::{Bodies, CONNECTION_WINDOW, STREAM_WINDOW};
use crate::pool::{EXCLUSIVE_TICK, Lease, Place};

/// What is understood here, as `Open` in the protocol has it.
const REVISION: u32 = 1;

/// How often it is looked whether a request waits at the worker for too long.
const RECALL_TICK: Duration = Duration::from_millis(4);

/// How often it is looked whether a worker is over the limit of a request and does not say so.
const EXPIRY_TICK: Duration = Duration::from_millis(500);

/// The sending half, which all exchanges share.
#[derive(Debug)]
pub(crate) struct Link {
    worker: String,
    requests: mpsc::UnboundedSender<ServeRequest>,
    exchanges: Exchanges,
    bodies: Bodies,
    /// Something may wait at the worker behind others.
    ahead: Alarm,
    /// Something is under way that has a limit.
    timed: Alarm,
    /// Something is under way that is to be the only one.
    exclusive: Alarm,
}

/// Has a look taken from time to time, for as long as there is anything to look after: a timer for all, where
/// one for each exchange would cost more than the rest of its wait.
#[derive(Debug, Default)]
struct Alarm {
    set: AtomicBool,
    wake: Notify,
}

impl Alarm {
    /// There is something to look after.
    fn set(&self) {
        if !self.set.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Never returns.
    async fn ring(&self, tick: Duration, look: impl Fn() -> Watch) {
        loop {
            self.wake.notified().await;
            loop {
                tokio::time::sleep(tick).await;
                // Before the look, so that what comes after it is not overlooked.
                self.set.store(false, Ordering::Relaxed);
                if look() == Watch::Nothing {
                    break;
                }
                self.set.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// The receiving half, which one task owns.
#[derive(Debug)]
pub(super) struct Responses {
    link: Arc<Link>,
    stream: Streaming<ServeResponse>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("open a stream to worker {worker}")]
    Open { worker: String, source: Box<Status> },
    #[error("worker {worker} did not begin its stream with a welcome")]
    NoWelcome { worker: String },
}

impl Link {
    /// Opens a link to the worker that listens at `socket`; it can take as many exchanges as is returned.
    ///
    /// # Errors
    /// When nobody listens there, or what does is no worker.
    pub(super) async fn connect(
        worker: &str,
        socket: &Path,
    ) -> Result<(Arc<Self>, Responses, usize), ConnectError> {
        let (link, outgoing) = Self::new(worker, socket);
        // A connection of its own: bodies never hold up heads.
        let channel: Channel = daemon::uds::channel_without_links(socket, tune);
        let refused = |source| ConnectError::Open { worker: worker.to_owned(), source: Box::new(source) };
        let answer = RunnerServiceClient::new(channel).serve(outgoing).await.map_err(refused)?;
        let mut stream = answer.into_inner();
        let first = stream.message().await.map_err(refused)?.and_then(|it| it.message);
        let Some(serve_response::Message::Welcome(Welcome { capacity })) = first else {
            return Err(ConnectError::NoWelcome { worker: worker.to_owned() });
        };
        let capacity = usize::try_from(capacity).unwrap_or(1).max(1);
        Ok((Arc::clone(&link), Responses { link, stream }, capacity))
    }

    /// A link that is not open yet, and what is to be sent on it.
    fn new(worker: &str, socket: &Path) -> (Arc<Self>, impl Stream<Item = ServeRequest> + use<>) {
        let stream = fastrand::u64(..);
        let (requests, receiver) = mpsc::unbounded_channel();
        // An empty message is this side's mark for the end; it is not sent.
        let outgoing =
            UnboundedReceiverStream::new(receiver).take_while(|it: &ServeRequest| it.message.is_some());
        let link = Arc::new(Self {
            worker: worker.to_owned(),
            requests,
            exchanges: Exchanges::default(),
            bodies: Bodies::new(
                stream,
                RunnerServiceClient::new(daemon::uds::channel_without_links(socket, tune)),
            ),
            ahead: Alarm::default(),
            timed: Alarm::default(),
            exclusive: Alarm::default(),
        });
        link.say(serve_request::Message::Open(Open { stream, revision: REVISION }));
        (link, outgoing)
    }

    /// Hands a request to the worker. Its client is told after `limit` that there is no answer.
    pub(crate) fn begin(
        self: &Arc<Self>,
        lease: Lease<Arc<Self>>,
        limit: Option<Duration>,
        mut request: Request,
    ) -> Pending {
        let (place, exclusive) = (lease.place(), lease.is_exclusive());
        let (id, entry, events) = self.exchanges.begin(lease, limit);
        if entry == Entry::Taken {
            request.id = id;
            self.say(serve_request::Message::Request(request));
        }
        if place == Place::Ahead {
            self.ahead.set();
        }
        if limit.is_some() {
            self.timed.set();
        }
        if exclusive {
            self.exclusive.set();
        }
        Pending { link: Arc::clone(self), id, events, settled: false }
    }

    /// Looks after what waits at the worker, for as long as the link lives. Never returns.
    pub(super) async fn look_after(&self) {
        let recalls = self.ahead.ring(RECALL_TICK, || self.recall_overdue());
        let expiries = self.timed.ring(EXPIRY_TICK, || self.exchanges.expire(Instant::now()));
        let exclusive = self.exclusive.ring(EXCLUSIVE_TICK, || self.exchanges.look_after_exclusive());
        tokio::join!(recalls, expiries, exclusive);
    }

    /// Recalls, for good, what waits at the worker while that is held up, or for too long: it may go to another one.
    fn recall_overdue(&self) -> Watch {
        let Some(late) = self.exchanges.recall(Instant::now()) else { return Watch::Nothing };
        late.into_iter().for_each(|id| self.say(serve_request::Message::Recall(Recall { id })));
        Watch::More
    }

    /// The client has gone. The exchange keeps its room until the worker says that it is done with it.
    pub(super) fn cancel(&self, id: u64) {
        if self.exchanges.cancel(id) {
            self.say(serve_request::Message::Cancel(Cancel { id }));
        }
    }

    /// The file that a response named is open, or will not be sent: its app may remove it.
    pub(super) fn file_opened(&self, id: u64) {
        self.say(serve_request::Message::FileOpened(FileOpened { id }));
    }

    /// The body of a response needs the link no longer.
    pub(super) fn received(&self) {
        self.close_if(self.exchanges.received());
    }

    /// Gives the worker nothing more, and closes once nothing is under way.
    pub(super) fn retire(&self) {
        self.close_if(self.exchanges.retire());
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// The way of large bodies.
    pub(crate) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    fn say(&self, message: serve_request::Message) {
        // When the stream has broken, `Responses` ends too and settles every exchange.
        let _broken = self.requests.send(ServeRequest { message: Some(message) });
    }

    fn close_if(&self, rest: Rest) {
        if rest == Rest::Idle {
            let _broken = self.requests.send(ServeRequest { message: None });
        }
    }
}

/// How a link came to its end, or goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// A message was dealt with.
    Handled,
    /// The worker takes nothing more.
    Draining,
    /// The worker closed the stream in order.
    Closed,
    /// The stream broke.
    Broken(Box<Status>),
}

impl Responses {
    /// Receives and deals with one message.
    pub(super) async fn next(&mut self) -> Next {
        use serve_response::Message;
        let message = match self.stream.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return Next::Closed,
            Err(status) => return Next::Broken(Box::new(status)),
        };
        let exchanges = &self.link.exchanges;
        let rest = match message {
            Some(Message::Response(response)) => exchanges.response(response),
            Some(Message::Done(done)) => exchanges.done(done.id),
            Some(Message::HandedBack(back)) => exchanges.handed_back(&back.ids),
            Some(Message::Draining(_)) => return Next::Draining,
            Some(Message::Begun(begun)) => {
                exchanges.begun(begun.id);
                Rest::Busy
            }
            Some(Message::NeedBody(need)) => {
                exchanges.need_body(need.id, need.offset);
                Rest::Busy
            }
            Some(Message::EarlyHints(hints)) => {
                exchanges.early_hints(hints.id, hints.headers);
                Rest::Busy
            }
            Some(Message::TimedOut(late)) => {
                exchanges.timed_out(late.id);
                Rest::Busy
            }
            Some(Message::Welcome(_)) | None => Rest::Busy,
        };
        self.link.close_if(rest);
        Next::Handled
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.link.exchanges.broken();
    }
}

fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW)
}

#[cfg(test)]
mod tests {
    use api::runner::Response;

    use super::*;
    use crate::pool::{Admission, Mode, Pool, Turn};
    use crate::upstream::Outcome;

    /// The end of a link can overtake a lease that was granted before it.
    #[tokio::test]
    async fn what_comes_after_the_end_is_handed_back_and_not_sent() {
        type End = fn(&Link);
        for end in [(|it| it.retire()) as End, |it| it.exchanges.broken()] {
            let (link, outgoing) = Link::new("blog-1", Path::new("/nowhere"));
            let pool = Pool::new(Admission::Queue(1));
            pool.link(0, 1, 1, Arc::clone(&link));
            let lease = pool.acquire(0, Mode::Shared, &mut Turn::new(Duration::ZERO)).await.unwrap();
            pool.unlink(0, 1);
            end(&link);
            let mut pending = link.begin(lease, None, Request::default());
            assert!(matches!(pending.outcome(|_, _, _| {}, |_| {}).await, Outcome::HandedBack));
            drop(pending);
            assert_eq!(pool.census().in_flight, 0);
            drop(link);
            let sent: Vec<_> = outgoing.collect().await;
            assert_eq!(sent.len(), 1, "no more than the opening: {sent:?}");
        }
    }

    /// What a worker was told to forget says nothing about it.
    #[tokio::test]
    async fn a_worker_is_not_avoided_for_what_its_client_cancelled() {
        let pool = Pool::new(Admission::Queue(1));
        let (link, _outgoing) = Link::new("blog-1", Path::new("/nowhere"));
        pool.link(0, 1, 1, Arc::clone(&link));
        pool.link(0, 2, 1, Link::new("blog-2", Path::new("/nowhere")).0);
        let lease = async || pool.acquire(0, Mode::Shared, &mut Turn::new(Duration::ZERO)).await.unwrap();
        let pending = link.begin(lease().await, None, Request::default());
        let id = pending.id;
        drop(pending);
        link.exchanges.handed_back(&[id]);
        assert_eq!(pool.census().in_flight, 0);
        assert_eq!(lease().await.link().worker(), "blog-1", "it comes first as ever");
    }

    /// Nobody else may ask for the worker meanwhile, and its client may have gone.
    #[tokio::test(start_paused = true)]
    async fn an_exclusive_exchange_that_takes_long_is_noticed() {
        let pool = Pool::new(Admission::Queue(1));
        let (link, _outgoing) = Link::new("blog-1", Path::new("/nowhere"));
        pool.link(0, 1, 2, Arc::clone(&link));
        let acquire = async |mode| pool.acquire(0, mode, &mut Turn::new(Duration::MAX)).await.unwrap();
        drop(link.begin(acquire(Mode::Exclusive).await, None, Request::default()));
        let mut later = Box::pin(acquire(Mode::Shared));
        assert!(futures_util::poll!(&mut later).is_pending());
        pool.age_reservation(Duration::from_secs(1));
        tokio::select! {
            () = link.look_after() => {}
            _lease = later => {}
        }
    }

    /// A worker that drains ends once its links are closed, and would take along what is still on its way.
    #[tokio::test]
    async fn it_is_closed_when_the_body_of_the_last_response_is_here() {
        let (link, outgoing) = Link::new("blog-1", Path::new("/nowhere"));
        let pool = Pool::new(Admission::Queue(1));
        pool.link(0, 1, 1, Arc::clone(&link));
        let lease = pool.acquire(0, Mode::Shared, &mut Turn::new(Duration::ZERO)).await.unwrap();
        let mut pending = link.begin(lease, None, Request::default());
        let response = Response { id: pending.id, streamed: true, done: true, ..Response::default() };
        link.exchanges.response(response);
        assert_eq!(pool.census().in_flight, 0, "the worker is free for the next");
        link.retire();
        let outcome = pending.outcome(|_, _, _| {}, |_| {}).await;
        let sent = outgoing.map(|_| ()).collect::<Vec<_>>();
        tokio::pin!(sent);
        assert!(futures_util::poll!(&mut sent).is_pending(), "its body is not here");
        drop(outcome);
        assert_eq!(sent.await.len(), 2, "the opening and the request");
    }
}
