//! A worker that the test plays: it sees each message of frontd, and sends what the test wants.

use std::path::Path;

use api::runner::runner_service_server::{RunnerService, RunnerServiceServer};
use api::runner::serve_request::Message as Sent;
use api::runner::serve_response::Message;
use api::runner::{
    Done, ExchangeRequest, ExchangeResponse, Header, Response as WorkerResponse, ServeRequest, ServeResponse,
    SocketClose, SocketCredit, SocketMessage, Welcome,
};
use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::transport::Server as GrpcServer;
use tonic::{Request, Response, Status, Streaming, async_trait};

type Responses = mpsc::UnboundedSender<Result<ServeResponse, Status>>;

/// A worker with one link.
pub(super) struct Worker {
    sent: mpsc::UnboundedReceiver<Sent>,
    links: mpsc::UnboundedReceiver<Responses>,
    responses: Option<Responses>,
    _serving: AbortOnDropHandle<()>,
}

struct Service {
    sockets: u32,
    sent: mpsc::UnboundedSender<Sent>,
    links: Mutex<mpsc::UnboundedSender<Responses>>,
}

impl Worker {
    /// Listens at `socket`, with one thread and room for this many WebSockets.
    pub(super) fn listen(socket: &Path, sockets: u32) -> Self {
        let (links, linked) = mpsc::unbounded_channel();
        let (sender, sent) = mpsc::unbounded_channel();
        let service = Service { sockets, sent: sender, links: links.into() };
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let serving = GrpcServer::builder()
            .add_service(RunnerServiceServer::new(service))
            .serve_with_incoming(incoming);
        let serving = TaskTracker::new().spawn(async { serving.await.unwrap() });
        Self { sent, links: linked, responses: None, _serving: AbortOnDropHandle::new(serving) }
    }

    /// The next message of frontd that isn't the first one of its link.
    pub(super) async fn next(&mut self) -> Sent {
        self.sent.recv().await.expect("the worker serves")
    }

    /// The next message, which must be a request. Returns its id.
    pub(super) async fn request(&mut self) -> api::runner::Request {
        match self.next().await {
            Sent::Request(request) => request,
            other => panic!("{other:?} is no request"),
        }
    }

    /// The next message, which must be one on a WebSocket: a complete message as text, its parts put together.
    pub(super) async fn message(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Sent::SocketMessage(SocketMessage { payload, more, .. }) => {
                    all.extend_from_slice(&payload);
                    if !more {
                        return String::from_utf8(all).unwrap();
                    }
                }
                other => panic!("{other:?} is no message"),
            }
        }
    }

    /// The next message, which must end a WebSocket.
    pub(super) async fn closed(&mut self) -> (u32, String) {
        match self.next().await {
            Sent::SocketClose(SocketClose { code, reason, .. }) => (code, reason),
            other => panic!("{other:?} closes nothing"),
        }
    }

    /// Whether frontd has sent anything else.
    pub(super) fn has_more(&mut self) -> bool {
        !self.sent.is_empty()
    }

    pub(super) async fn send(&mut self, message: Message) {
        if self.responses.is_none() {
            self.responses = self.links.recv().await;
        }
        let responses = self.responses.as_ref().expect("the worker is linked");
        responses.send(Ok(ServeResponse { message: Some(message) })).unwrap();
    }

    /// Accepts a handshake.
    pub(super) async fn accept(&mut self, id: u64, headers: &[(&'static str, &'static str)]) {
        let headers = headers
            .iter()
            .map(|(name, value)| Header { name: Bytes::from_static(name.as_bytes()), value: (*value).into() })
            .collect();
        self.send(Message::Response(WorkerResponse {
            id,
            status: 101,
            headers,
            ..WorkerResponse::default()
        }))
        .await;
    }

    /// Refuses a handshake.
    pub(super) async fn refuse(&mut self, id: u64, status: u32, body: &'static str) {
        let body = Bytes::from_static(body.as_bytes());
        self.send(Message::Response(WorkerResponse {
            id,
            status,
            body,
            done: true,
            ..WorkerResponse::default()
        }))
        .await;
    }

    pub(super) async fn say(&mut self, id: u64, text: &str) {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        self.send(Message::SocketMessage(SocketMessage { id, payload, text: true, more: false })).await;
    }

    pub(super) async fn credit(&mut self, id: u64, bytes: u32) {
        self.send(Message::SocketCredit(SocketCredit { id, bytes })).await;
    }

    pub(super) async fn close(&mut self, id: u64, code: u32, reason: &str) {
        self.send(Message::SocketClose(SocketClose { id, code, reason: reason.to_owned() })).await;
    }

    pub(super) async fn done(&mut self, id: u64) {
        self.send(Message::Done(Done { id })).await;
    }

    /// Breaks the link.
    pub(super) fn vanish(&mut self) {
        if let Some(responses) = self.responses.take() {
            responses.send(Err(Status::unavailable("it is gone"))).unwrap();
        }
    }
}

#[async_trait]
impl RunnerService for Service {
    type ServeStream = UnboundedReceiverStream<Result<ServeResponse, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let (responses, outgoing) = mpsc::unbounded_channel();
        let welcome = Welcome { capacity: 1, streams_bodies: false, sockets: self.sockets };
        let welcome = ServeResponse { message: Some(Message::Welcome(welcome)) };
        responses.send(Ok(welcome)).unwrap();
        let _test_has_ended = self.links.lock().await.send(responses);
        let (mut incoming, sent) = (request.into_inner(), self.sent.clone());
        TaskTracker::new().spawn(async move {
            while let Ok(Some(ServeRequest { message: Some(message) })) = incoming.message().await {
                if !matches!(message, Sent::Open(_)) {
                    let _test_has_ended = sent.send(message);
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(outgoing)))
    }

    type ExchangeStream = UnboundedReceiverStream<Result<ExchangeResponse, Status>>;

    async fn exchange(
        &self,
        _: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::unimplemented("it has only small bodies"))
    }
}
