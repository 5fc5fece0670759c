//! Plays frontd: one shard that talks to one worker.

use std::path::Path;

use api::runner::runner_service_client::RunnerServiceClient;
use api::runner::serve_response::Message;
use api::runner::{
    Cancel, Connection, ExchangeRequest, Header, Open, Recall, Request, Response, ServeRequest,
    ServeResponse, SocketClose, Start, exchange_request, serve_request,
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// An open `Serve` call.
pub(crate) struct Front {
    client: RunnerServiceClient<Channel>,
    stream: u64,
    requests: Option<mpsc::Sender<ServeRequest>>,
    responses: Streaming<ServeResponse>,
    last_id: u64,
    pub(crate) capacity: u32,
}

/// An `Exchange` call.
pub(crate) struct Call {
    pub(crate) chunks: mpsc::Sender<ExchangeRequest>,
    pub(crate) body: Streaming<api::runner::ExchangeResponse>,
}

impl Front {
    pub(crate) async fn open(socket: &Path, stream: u64) -> Self {
        Self::try_open(socket, stream).await.unwrap()
    }

    /// Like `open`. The worker may close the connection before it serves.
    pub(crate) async fn try_open(socket: &Path, stream: u64) -> Result<Self, Status> {
        let channel = daemon::uds::channel(socket, |it| it.initial_connection_window_size(1 << 30));
        let mut client = RunnerServiceClient::new(channel);
        let (requests, outgoing) = mpsc::channel(64);
        let open = serve_request::Message::Open(Open { stream, revision: 0 });
        requests.send(ServeRequest { message: Some(open) }).await.unwrap();
        let mut responses = client.serve(ReceiverStream::new(outgoing)).await?.into_inner();
        let welcome = responses.message().await?.unwrap().message;
        let Some(Message::Welcome(welcome)) = welcome else { panic!("{welcome:?} is no welcome") };
        let capacity = welcome.capacity;
        Ok(Self { client, stream, requests: Some(requests), responses, last_id: 0, capacity })
    }

    /// Sends a request, and returns its id.
    pub(crate) async fn send(&mut self, request: Request) -> u64 {
        self.last_id += 1;
        self.send_message(serve_request::Message::Request(Request { id: self.last_id, ..request })).await;
        self.last_id
    }

    pub(crate) async fn recall(&self, id: u64) {
        self.send_message(serve_request::Message::Recall(Recall { id })).await;
    }

    pub(crate) async fn cancel(&self, id: u64) {
        self.send_message(serve_request::Message::Cancel(Cancel { id })).await;
    }

    /// The client has closed a WebSocket.
    pub(crate) async fn close_socket(&self, id: u64, code: u32) {
        let close = SocketClose { id, code, reason: String::new() };
        self.send_message(serve_request::Message::SocketClose(close)).await;
    }

    async fn send_message(&self, message: serve_request::Message) {
        let requests = self.requests.as_ref().expect("not half-closed");
        requests.send(ServeRequest { message: Some(message) }).await.unwrap();
    }

    /// The worker's next message. `None` at the normal end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.responses.message().await.expect("the stream holds").and_then(|it| it.message)
    }

    /// Whether the stream broke.
    pub(crate) async fn is_broken(&mut self) -> bool {
        self.responses.message().await.is_err()
    }

    /// The id of the last request.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// Opens the call for the bodies of `id`.
    pub(crate) async fn exchange(&mut self, id: u64) -> Call {
        let (chunks, outgoing) = mpsc::channel(4);
        let start = exchange_request::Message::Start(Start { stream: self.stream, id });
        chunks.send(ExchangeRequest { message: Some(start) }).await.unwrap();
        let body = self.client.exchange(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Call { chunks, body }
    }

    /// Sends `request` and returns the response with its body, inline or streamed.
    pub(crate) async fn fetch(&mut self, request: Request) -> Response {
        let is_safe = matches!(&*request.method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
        let id = self.send(request).await;
        let mut next = self.next().await.unwrap();
        if !is_safe {
            assert!(matches!(next, Message::Begun(begun) if begun.id == id));
            next = self.next().await.unwrap();
        }
        let Message::Response(mut response) = next else { panic!("{next:?} is no response") };
        assert_eq!(response.id, id);
        if response.streamed {
            let mut call = self.exchange(id).await;
            response.body = call.rest().await.unwrap().into();
        }
        if !response.done {
            let done = self.next().await.unwrap();
            assert!(matches!(done, Message::Done(done) if done.id == id));
        }
        response
    }
}

impl Call {
    pub(crate) async fn send(&self, chunk: impl Into<Bytes>) {
        let message = Some(exchange_request::Message::Chunk(chunk.into()));
        self.chunks.send(ExchangeRequest { message }).await.unwrap();
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        Ok(self.body.message().await?.map(|it| it.chunk))
    }

    /// Reads the rest of the body.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>, Status> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A request as frontd would send it.
pub(crate) fn request(method: &str, target: &str) -> Request {
    Request {
        method: Bytes::copy_from_slice(method.as_bytes()),
        target: Bytes::copy_from_slice(target.as_bytes()),
        version: 11,
        headers: vec![header("host", "blog.example")],
        connection: Some(Connection { remote_address: "192.0.2.7".into(), remote_port: 4711, tls: true }),
        server_name: "blog.example".into(),
        server_port: 443,
        request_id: "test-1".into(),
        ..Request::default()
    }
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target)
}

pub(crate) fn post(target: &str, body: impl Into<Bytes>) -> Request {
    Request { body: body.into(), ..request("POST", target) }
}

pub(crate) fn header(name: &str, value: &str) -> Header {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Header { name: bytes(name), value: bytes(value) }
}
