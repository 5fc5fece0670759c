//! Implements `RunnerService`: receives requests from frontd and carries their bodies.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use api::runner::runner_service_server::{RunnerService, RunnerServiceServer};
use api::runner::serve_request::Message;
use api::runner::serve_response;
use api::runner::{ExchangeRequest, Open, ServeRequest, ServeResponse, Start, Welcome, exchange_request};
use daemon::accept::{AcceptErrors, Acceptor};
use daemon::uds::LazyWriteStream;
use futures_util::{Stream, StreamExt as _, stream};
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::active::NotJoined;
use super::chunks::Chunks;
use super::guest::{Guest, Spawner};
use super::peers::Peers;
use super::requests::Requests;
use super::session::Session;
use super::websocket::WebSocket;

/// Flow-control window of a `Serve` or `Exchange` stream, in bytes. The rest of a body waits at frontd.
const STREAM_WINDOW: u32 = 1 << 20;
/// So large that unread bodies never block other streams of their connection.
const CONNECTION_WINDOW: u32 = 1 << 30;
const FRAME_SIZE: u32 = 1 << 18;
/// The largest request with its inline body. frontd's limits are far lower.
const MESSAGE_SIZE: usize = 2 << 20;

/// Serves `peers` until the process exits.
pub(crate) async fn serve(listener: UnixListener, peers: Peers, requests: Arc<Requests>, welcome: Welcome) {
    let accepted = accept(listener, peers).map(|it| it.and_then(LazyWriteStream::new));
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .add_service(service(requests, welcome, Arc::default()))
        .serve_with_incoming(accepted)
        .await;
    if let Err(error) = served {
        tracing::error!(cause = &error as &dyn std::error::Error, "serve requests");
    }
}

/// Like `serve`, but only accepts connections here: `guest` serves them.
pub(crate) async fn serve_by(
    guest: Arc<Guest>,
    listener: UnixListener,
    peers: Peers,
    requests: Arc<Requests>,
    welcome: Welcome,
) {
    let mut accepted = pin!(accept(listener, peers));
    while let Some(accepted) = accepted.next().await {
        let socket = accepted.and_then(UnixStream::into_std).and_then(|it| guest.socket(it));
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection from frontd cannot be served");
                continue;
            }
        };
        let service = service(Arc::clone(&requests), welcome, socket.waits_to_write());
        let service = TowerToHyperService::new(service);
        let connection = protocol(guest.executor()).serve_connection(TokioIo::new(socket), service);
        guest.spawn(async {
            if let Err(error) = connection.await {
                tracing::debug!(
                    cause = &error as &dyn std::error::Error,
                    "a connection from frontd has ended"
                );
            }
        });
    }
}

fn accept(listener: UnixListener, peers: Peers) -> impl Stream<Item = io::Result<UnixStream>> {
    let mut acceptor = Acceptor::new(listener, Arc::new(AcceptErrors::default()));
    let accepted = stream::poll_fn(move |context| acceptor.poll_accept(context).map(Some));
    accepted.filter_map(move |it| std::future::ready(peers.admit(it)))
}

/// The settings of `serve`, for a guest.
fn protocol(executor: Spawner) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(executor);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(None);
    builder
}

fn service(
    requests: Arc<Requests>,
    welcome: Welcome,
    waits_to_write: Arc<AtomicBool>,
) -> RunnerServiceServer<impl RunnerService> {
    RunnerServiceServer::new(Runner { requests, welcome, waits_to_write })
        .max_decoding_message_size(MESSAGE_SIZE)
        .max_encoding_message_size(usize::MAX)
}

struct Runner {
    requests: Arc<Requests>,
    welcome: Welcome,
    /// Of the connection, if it is a guest's.
    waits_to_write: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl RunnerService for Runner {
    type ServeStream = Serve;
    type ExchangeStream = Chunks;

    async fn serve(&self, request: Request<Streaming<ServeRequest>>) -> Result<Response<Serve>, Status> {
        let mut incoming = request.into_inner();
        let Some(Message::Open(Open { stream, revision })) =
            incoming.message().await?.and_then(|it| it.message)
        else {
            return Err(Status::invalid_argument("the first message of a Serve is Open"));
        };
        let (session, outgoing) = Session::on(stream, revision, Arc::clone(&self.waits_to_write));
        session.send(serve_response::Message::Welcome(self.welcome));
        let session = Arc::new(session);
        self.requests.open(&session);
        let requests = Arc::clone(&self.requests);
        Ok(Response::new(Serve { stream, incoming, outgoing, session: Some(session), requests }))
    }

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|it| it.message);
        let Some(exchange_request::Message::Start(Start { stream, id })) = first else {
            return Err(Status::invalid_argument("the first message of an Exchange is Start"));
        };
        let over = || Status::not_found("the exchange has ended");
        let active = self.requests.find(stream, id).ok_or_else(over)?;
        let (sender, chunks) = Chunks::new(Arc::clone(&active));
        active.join(incoming, sender).map_err(|refused| match refused {
            NotJoined::Twice => Status::already_exists("the exchange has its call already"),
            NotJoined::Over => over(),
        })?;
        Ok(Response::new(chunks))
    }
}

/// Both directions of one `Serve` call in one task: it processes incoming messages whenever it is polled for
/// outgoing ones.
pub(crate) struct Serve {
    stream: u64,
    incoming: Streaming<ServeRequest>,
    outgoing: mpsc::UnboundedReceiver<ServeResponse>,
    /// Held while frontd may send. The stream ends once all requests have dropped it too.
    session: Option<Arc<Session>>,
    requests: Arc<Requests>,
}

impl Stream for Serve {
    type Item = Result<ServeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.take_in(context);
        self.outgoing.poll_recv(context).map(|it| it.map(Ok))
    }
}

impl Serve {
    fn take_in(&mut self, context: &mut Context<'_>) {
        while let Some(session) = &self.session {
            match Pin::new(&mut self.incoming).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(request))) => self.receive(session, request),
                Poll::Ready(None) => self.close(Requests::half_close),
                Poll::Ready(Some(Err(status))) => {
                    tracing::debug!(reason = status.message(), "frontd disconnected");
                    self.close(Requests::lose);
                }
            }
        }
    }

    fn receive(&self, session: &Arc<Session>, request: ServeRequest) {
        match request.message {
            Some(Message::Request(request)) => self.requests.submit(session, request),
            Some(Message::Cancel(cancel)) => self.requests.cancel(session, cancel.id),
            Some(Message::Recall(recall)) => self.requests.recall(session, recall.id),
            Some(Message::FileOpened(opened)) => {
                if let Some(active) = self.requests.find(session.stream, opened.id) {
                    active.file_opened();
                }
            }
            Some(Message::SocketMessage(part)) => {
                let id = part.id;
                self.with_socket(session, id, |it| it.arrive(part, session));
            }
            Some(Message::SocketCredit(credit)) => {
                self.with_socket(session, credit.id, |it| it.add_credit(credit.bytes, session));
            }
            Some(Message::SocketClose(close)) => {
                self.with_socket(session, close.id, |it| it.close_by_client(close.code, close.reason));
            }
            // A second Open, or a message of a newer frontd. Ignored.
            Some(Message::Open(_)) | None => {}
        }
    }

    /// Changes a WebSocket, unless it has ended.
    fn with_socket(&self, session: &Session, id: u64, change: impl FnOnce(&WebSocket)) {
        let Some(active) = self.requests.find_socket(session.stream, id) else { return };
        if let Some(websocket) = active.websocket() {
            change(websocket);
            active.websocket_changed();
        }
    }

    fn close(&mut self, how: fn(&Requests, u64)) {
        how(&self.requests, self.stream);
        self.session = None;
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.requests.lose(self.stream);
    }
}
