//! One shard's link to one worker: the stream that carries its exchanges.

mod accepted;
mod bodies;
mod exchanges;
mod outcome;
mod pending;
mod sockets;
#[cfg(test)]
mod tests;
mod upload_codec;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::Endpoint;
use api::runner::runner_service_client::RunnerServiceClient;
use api::runner::{
    Cancel, FileOpened, Open, Recall, Request, ServeRequest, ServeResponse, Welcome, serve_request,
    serve_response,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Status, Streaming, transport};

use self::bodies::Bodies;
use self::exchanges::{CheckAgain, Entry, Exchanges, LinkState};
pub(crate) use self::outcome::{Broken, Outcome, Receiving, Uploading};
pub(crate) use self::pending::{BodyCall, Pending, Progress};
pub(crate) use self::sockets::{Socket, SocketEvent};
pub(crate) use self::upload_codec::BrokenOff;
use crate::backend::pool::{EXCLUSIVE_TICK, Lease, Room, Slot};

/// How many bytes of one body may be in flight between frontd and a worker.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Effectively unlimited: each body on a connection has its own limit, and a slow one must not block the
/// others.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// The protocol revision that frontd supports: see `Open` in the protocol.
const REVISION: u32 = 1;

/// How often to check for requests that have been queued at the worker for too long.
const RECALL_TICK: Duration = Duration::from_millis(4);

/// How often to check for requests that exceeded their limit without a report from the worker.
const EXPIRY_TICK: Duration = Duration::from_millis(500);

/// The sending half, shared by all exchanges.
#[derive(Debug)]
pub(crate) struct Link {
    worker: String,
    requests: mpsc::UnboundedSender<ServeRequest>,
    exchanges: Exchanges,
    bodies: Bodies,
    /// From the worker's welcome.
    streams_bodies: AtomicBool,
    /// Checks for recalls while requests are queued at the worker.
    recalls: PeriodicCheck,
    /// Checks for expired deadlines while requests with a limit are in flight.
    deadlines: PeriodicCheck,
    /// Checks the reservation while an exclusive request is in flight.
    exclusive: PeriodicCheck,
}

/// Runs a check at intervals while there is something to check. One timer serves all exchanges, since a timer
/// per exchange would be the largest part of its cost.
#[derive(Debug, Default)]
struct PeriodicCheck {
    set: AtomicBool,
    wake: Notify,
}

impl PeriodicCheck {
    /// Starts the checks.
    fn set(&self) {
        if !self.set.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Runs the checks. Never returns.
    async fn run(&self, tick: Duration, check: impl Fn() -> CheckAgain) {
        loop {
            self.wake.notified().await;
            loop {
                tokio::time::sleep(tick).await;
                // Reset before the check, so that whatever is set meanwhile isn't missed.
                self.set.store(false, Ordering::Relaxed);
                if check() == CheckAgain::No {
                    break;
                }
                self.set.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// The receiving half, owned by one task.
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
    #[error("worker {worker} didn't start its stream with a welcome")]
    NoWelcome { worker: String },
    #[error("connect to worker {worker} at {endpoint}: workers over TCP aren't supported yet")]
    NoTcp { worker: String, endpoint: Endpoint },
}

impl Link {
    /// Connects to the worker that listens at `endpoint`. Also returns how much the worker takes.
    ///
    /// # Errors
    ///
    /// Returns an error if nobody listens there, if it isn't a worker, or if it isn't a unix socket.
    pub(super) async fn connect(
        worker: &str,
        endpoint: &Endpoint,
    ) -> Result<(Arc<Self>, Responses, Room), ConnectError> {
        let Endpoint::Unix(socket) = endpoint else {
            return Err(ConnectError::NoTcp { worker: worker.to_owned(), endpoint: endpoint.clone() });
        };
        let (link, outgoing) = Self::new(worker, socket);
        // Bodies use a separate connection, so they never delay heads.
        let channel: Channel = daemon::uds::channel_without_links(socket, tune);
        let refused = |source| ConnectError::Open { worker: worker.to_owned(), source: Box::new(source) };
        let answer = RunnerServiceClient::new(channel).serve(outgoing).await.map_err(refused)?;
        let mut stream = answer.into_inner();
        let first = stream.message().await.map_err(refused)?.and_then(|it| it.message);
        let Some(serve_response::Message::Welcome(welcome)) = first else {
            return Err(ConnectError::NoWelcome { worker: worker.to_owned() });
        };
        let Welcome { capacity, streams_bodies, sockets } = welcome;
        link.streams_bodies.store(streams_bodies, Ordering::Relaxed);
        let room = Room { requests: capacity.max(1) as usize, sockets: sockets as usize };
        Ok((Arc::clone(&link), Responses { link, stream }, room))
    }

    /// Creates a link that isn't connected yet, and the stream of messages to send.
    pub(crate) fn new(worker: &str, socket: &Path) -> (Arc<Self>, impl Stream<Item = ServeRequest> + use<>) {
        let stream = fastrand::u64(..);
        let (requests, receiver) = mpsc::unbounded_channel();
        // An empty message marks the end of the stream on this side. It isn't sent.
        let outgoing =
            UnboundedReceiverStream::new(receiver).take_while(|it: &ServeRequest| it.message.is_some());
        let link = Arc::new(Self {
            worker: worker.to_owned(),
            requests,
            exchanges: Exchanges::default(),
            bodies: Bodies::new(stream, daemon::uds::channel_without_links(socket, tune)),
            streams_bodies: AtomicBool::new(false),
            recalls: PeriodicCheck::default(),
            deadlines: PeriodicCheck::default(),
            exclusive: PeriodicCheck::default(),
        });
        link.send(serve_request::Message::Open(Open { stream, revision: REVISION }));
        (link, outgoing)
    }

    /// Sends a request to the worker. The client gets a timeout if there is no response within `limit`.
    pub(crate) fn begin(
        self: &Arc<Self>,
        lease: Lease<Arc<Self>>,
        limit: Option<Duration>,
        mut request: Request,
    ) -> Pending {
        let (slot, exclusive) = (lease.slot(), lease.is_exclusive());
        let (id, entry, events) = self.exchanges.begin(lease, limit);
        if entry == Entry::Taken {
            request.id = id;
            self.send(serve_request::Message::Request(request));
        }
        if slot == Slot::Queued {
            self.recalls.set();
        }
        if limit.is_some() {
            self.deadlines.set();
        }
        if exclusive {
            self.exclusive.set();
        }
        Pending { link: Arc::clone(self), id, events, settled: false }
    }

    /// Runs the periodic checks while the link exists. Never returns.
    pub(super) async fn run_checks(&self) {
        let recalls = self.recalls.run(RECALL_TICK, || self.recall_overdue());
        let expiries = self.deadlines.run(EXPIRY_TICK, || self.exchanges.expire(Instant::now()));
        let exclusive = self.exclusive.run(EXCLUSIVE_TICK, || self.exchanges.check_exclusive());
        tokio::join!(recalls, expiries, exclusive);
    }

    /// Recalls requests that are queued at the worker while it is stalled, or for too long, so that another
    /// worker can take them.
    fn recall_overdue(&self) -> CheckAgain {
        let Some(late) = self.exchanges.recall(Instant::now()) else { return CheckAgain::No };
        self.recall(late);
        CheckAgain::Yes
    }

    /// Recalls all requests that are queued at the worker.
    pub(super) fn recall_queued(&self) {
        self.recall(self.exchanges.recall_queued());
    }

    fn recall(&self, ids: Vec<u64>) {
        ids.into_iter().for_each(|id| self.send(serve_request::Message::Recall(Recall { id })));
    }

    /// The client has left. The lease is held until the worker reports that it is done.
    pub(super) fn cancel(&self, id: u64) {
        if self.exchanges.cancel(id) {
            self.send(serve_request::Message::Cancel(Cancel { id }));
        }
    }

    /// The file that a response named is open, or won't be sent: the app may remove it.
    pub(super) fn file_opened(&self, id: u64) {
        self.send(serve_request::Message::FileOpened(FileOpened { id }));
    }

    /// The client is sending the body of this exchange.
    fn upload_began(&self, id: u64) {
        self.exchanges.upload_began(id);
    }

    /// The body of this exchange is complete, or can't be.
    fn upload_ended(&self, id: u64) {
        if self.exchanges.upload_ended(id) {
            self.deadlines.set();
        }
    }

    /// A response body no longer needs the link.
    pub(super) fn received(&self) {
        self.close_if(self.exchanges.received());
    }

    /// Sends no new requests, and closes the link once nothing is in flight.
    pub(super) fn retire(&self) {
        self.close_if(self.exchanges.retire());
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// Whether the worker takes requests whose body is still arriving.
    pub(crate) fn streams_bodies(&self) -> bool {
        self.streams_bodies.load(Ordering::Relaxed)
    }

    /// Opens calls for large bodies.
    pub(crate) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Handles a response, as if it had come from the worker.
    #[cfg(test)]
    pub(crate) fn receive_response(&self, response: api::runner::Response) {
        self.exchanges.response(response);
    }

    /// Handles a message on a WebSocket, as if it had come from the worker.
    #[cfg(test)]
    pub(crate) fn receive_message(&self, message: api::runner::SocketMessage) {
        self.exchanges.socket_message(message);
    }

    fn send(&self, message: serve_request::Message) {
        // If the stream has broken, `Responses` ends too and settles all exchanges.
        let _broken = self.requests.send(ServeRequest { message: Some(message) });
    }

    fn close_if(&self, link_state: LinkState) {
        if link_state == LinkState::Idle {
            let _broken = self.requests.send(ServeRequest { message: None });
        }
    }
}

/// The result of processing one message.
#[derive(Debug)]
pub(super) enum Next {
    /// A message was processed.
    Handled,
    /// The worker accepts no new requests.
    Draining,
    /// The worker's event loop is blocked, or goes on.
    Lag { blocked: bool },
    /// The worker closed the stream cleanly.
    Closed,
    /// The stream broke.
    Broken(Box<Status>),
}

impl Responses {
    /// Receives and processes one message.
    pub(super) async fn next(&mut self) -> Next {
        use serve_response::Message;
        let message = match self.stream.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return Next::Closed,
            Err(status) => return Next::Broken(Box::new(status)),
        };
        let exchanges = &self.link.exchanges;
        let link_state = match message {
            Some(Message::Response(response)) => exchanges.response(response),
            Some(Message::Done(done)) => exchanges.done(done.id),
            Some(Message::HandedBack(back)) => exchanges.handed_back(&back.ids),
            Some(Message::Draining(_)) => return Next::Draining,
            Some(Message::Begun(begun)) => {
                exchanges.begun(begun.id);
                LinkState::Busy
            }
            Some(Message::NeedBody(need)) => {
                exchanges.need_body(need.id, need.offset);
                LinkState::Busy
            }
            Some(Message::EarlyHints(hints)) => {
                exchanges.early_hints(hints.id, hints.headers);
                LinkState::Busy
            }
            Some(Message::TimedOut(late)) => {
                exchanges.timed_out(late.id);
                LinkState::Busy
            }
            Some(Message::SocketMessage(message)) => {
                exchanges.socket_message(message);
                LinkState::Busy
            }
            Some(Message::SocketCredit(credit)) => {
                exchanges.socket_credit(credit);
                LinkState::Busy
            }
            Some(Message::SocketClose(close)) => {
                exchanges.socket_close(close);
                LinkState::Busy
            }
            Some(Message::Lag(lag)) => return Next::Lag { blocked: lag.blocked },
            Some(Message::Welcome(_)) | None => LinkState::Busy,
        };
        self.link.close_if(link_state);
        Next::Handled
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.link.exchanges.broken();
    }
}

fn tune(channel: transport::Endpoint) -> transport::Endpoint {
    channel.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW)
}
