//! A worker that does what the test says, and clients of the server that it works for.

use std::pin::Pin;

use api::runner::runner_service_server::{RunnerService, RunnerServiceServer};
use api::runner::{
    Begun, Done, ExchangeRequest, ExchangeResponse, HandedBack, Header, NeedBody, Request as Message,
    Response, ServeRequest, ServeResponse, Welcome, exchange_request, serve_request, serve_response,
};
use futures_util::stream;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::*;
use crate::backend::Links;

/// How long to wait for what has to happen.
const SOON: Duration = Duration::from_secs(20);

/// Waits for something that has to happen soon.
pub(super) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, event).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// The worker's end of a link.
pub(super) struct Worker {
    received: mpsc::UnboundedReceiver<serve_request::Message>,
    answers: mpsc::UnboundedSender<Result<ServeResponse, Status>>,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// An `Exchange` call.
pub(super) struct Call {
    pub(super) id: u64,
    incoming: Streaming<ExchangeRequest>,
    /// Sends the body of the response, and ends it when it is dropped.
    pub(super) outgoing: mpsc::Sender<Result<ExchangeResponse, Status>>,
}

struct Runner {
    welcome: Welcome,
    received: mpsc::UnboundedSender<serve_request::Message>,
    answers: parking_lot::Mutex<Option<mpsc::UnboundedReceiver<Result<ServeResponse, Status>>>>,
    calls: mpsc::UnboundedSender<Call>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RunnerService for Runner {
    type ServeStream = Answers<ServeResponse>;
    type ExchangeStream = Answers<ExchangeResponse>;

    async fn serve(
        &self,
        request: tonic::Request<Streaming<ServeRequest>>,
    ) -> Result<tonic::Response<Self::ServeStream>, Status> {
        let (mut incoming, received) = (request.into_inner(), self.received.clone());
        let mut answers =
            self.answers.lock().take().ok_or_else(|| Status::unavailable("the worker is gone"))?;
        let welcome = serve_response::Message::Welcome(self.welcome);
        let first = stream::once(async { Ok(ServeResponse { message: Some(welcome) }) });
        let both = stream::poll_fn(move |cx| {
            while let std::task::Poll::Ready(Some(Ok(message))) = Pin::new(&mut incoming).poll_next(cx) {
                message.message.into_iter().for_each(|it| drop(received.send(it)));
            }
            answers.poll_recv(cx)
        });
        Ok(tonic::Response::new(Box::pin(futures_util::StreamExt::chain(first, both))))
    }

    async fn exchange(
        &self,
        request: tonic::Request<Streaming<ExchangeRequest>>,
    ) -> Result<tonic::Response<Self::ExchangeStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|it| it.message);
        let Some(exchange_request::Message::Start(start)) = first else { panic!("{first:?} is no start") };
        let (outgoing, chunks) = mpsc::channel(1);
        self.calls.send(Call { id: start.id, incoming, outgoing }).expect("the test still runs");
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

impl Worker {
    /// Listens at a socket, and welcomes one link.
    pub(super) fn listen(socket: &std::path::Path, welcome: Welcome, tasks: &TaskTracker) -> Self {
        let (received, requests) = mpsc::unbounded_channel();
        let (answers, outgoing) = mpsc::unbounded_channel();
        let (opened, calls) = mpsc::unbounded_channel();
        let answers_of_link = parking_lot::Mutex::new(Some(outgoing));
        let runner = Runner { welcome, received, answers: answers_of_link, calls: opened };
        let listener = UnixListener::bind(socket).unwrap();
        let accepted = stream::poll_fn(move |cx| listener.poll_accept(cx).map(|it| Some(it.map(|it| it.0))));
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 30)
            .add_service(RunnerServiceServer::new(runner));
        tasks.spawn(async move { server.serve_with_incoming(accepted).await.unwrap() });
        Self { received: requests, answers, calls }
    }

    /// The next message after the opening one.
    pub(super) async fn message(&mut self) -> serve_request::Message {
        loop {
            let next = soon("a message for the worker", self.received.recv()).await;
            match next.expect("the link is there") {
                serve_request::Message::Open(_) => {}
                message => return message,
            }
        }
    }

    /// The next request.
    pub(super) async fn request(&mut self) -> Message {
        match self.message().await {
            serve_request::Message::Request(request) => request,
            other => panic!("{other:?} is no request"),
        }
    }

    /// Waits for the cancellation of an exchange.
    pub(super) async fn cancelled(&mut self, id: u64) {
        match self.message().await {
            serve_request::Message::Cancel(cancel) => assert_eq!(cancel.id, id),
            other => panic!("{other:?} is no cancellation"),
        }
    }

    pub(super) fn send(&self, message: serve_response::Message) {
        self.answers.send(Ok(ServeResponse { message: Some(message) })).expect("the link is there");
    }

    pub(super) fn begun(&self, id: u64) {
        self.send(serve_response::Message::Begun(Begun { id }));
    }

    /// Asks for the body from `offset` on, and waits for its call.
    pub(super) async fn need_body(&mut self, id: u64, offset: u64) -> Call {
        self.send(serve_response::Message::NeedBody(NeedBody { id, offset }));
        self.call(id).await
    }

    pub(super) async fn call(&mut self, id: u64) -> Call {
        let call = soon("a call for the bodies", self.calls.recv()).await.expect("the worker listens");
        assert_eq!(call.id, id);
        call
    }

    /// Answers with a small body.
    pub(super) fn answer(&self, id: u64, body: &'static str) {
        let response = Response { id, status: 200, body: body.into(), done: true, ..Response::default() };
        self.send(serve_response::Message::Response(response));
    }

    /// Begins a response whose body is streamed.
    pub(super) fn begin_response(&self, response: Response) {
        self.send(serve_response::Message::Response(Response { status: 200, streamed: true, ..response }));
    }

    pub(super) fn done(&self, id: u64) {
        self.send(serve_response::Message::Done(Done { id }));
    }

    pub(super) fn hand_back(&self, id: u64) {
        self.send(serve_response::Message::HandedBack(HandedBack { ids: vec![id] }));
    }

    /// Ends the link as a worker does that dies.
    pub(super) fn die(&self) {
        self.answers.send(Err(Status::aborted("it died"))).expect("the link is there");
    }
}

impl Call {
    /// The next part of the request's body. `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        let next = soon("a part of the request's body", self.incoming.message()).await?;
        Ok(next.and_then(|it| it.message).map(|it| match it {
            exchange_request::Message::Chunk(chunk) => chunk,
            other @ exchange_request::Message::Start(_) => panic!("{other:?} is no chunk"),
        }))
    }

    /// Reads until this many bytes of the body are here, or until its end.
    pub(super) async fn read(&mut self, bytes: usize) -> Result<Vec<u8>, Status> {
        let mut read = Vec::new();
        while read.len() < bytes {
            let Some(chunk) = self.chunk().await? else { break };
            read.extend_from_slice(&chunk);
        }
        Ok(read)
    }

    /// Sends a part of the response's body.
    pub(super) async fn send(&self, chunk: &'static str) {
        let message = ExchangeResponse { chunk: chunk.into(), trailers: Vec::new() };
        soon("room for the response", self.outgoing.send(Ok(message))).await.expect("frontd reads");
    }

    /// Sends the end of the response's body, and its trailers.
    pub(super) async fn end_with(self, chunk: &'static str, trailers: &[(&'static str, &'static str)]) {
        let trailers = trailers.iter().map(|(name, value)| header(name, value)).collect();
        let message = ExchangeResponse { chunk: chunk.into(), trailers };
        soon("room for the response", self.outgoing.send(Ok(message))).await.expect("frontd reads");
    }

    /// Waits until frontd doesn't read the response any more.
    pub(super) async fn closed(&self) {
        soon("the end of the call", self.outgoing.closed()).await;
    }
}

pub(super) fn header(name: &'static str, value: &'static str) -> Header {
    Header { name: name.into(), value: value.into() }
}

/// A server with one app, `blog.example`, and the workers of it.
pub(super) struct Stage {
    folder: TempDir,
    pub(super) shared: Shared,
    pub(super) server: Arc<Server>,
    tables: watch::Sender<Arc<Table>>,
    app: routes::App,
    listener: TcpListener,
}

impl Stage {
    pub(super) async fn new(app: routes::App) -> Self {
        Self::with(app, |_| ()).await
    }

    pub(super) async fn with(app: routes::App, set: impl FnOnce(&mut FrontdConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec!["blog.example".to_owned()];
        let app = routes::App {
            name: "blog".to_owned(),
            domains,
            path: "/".to_owned(),
            body_limit: if app.body_limit == 0 { 1 << 30 } else { app.body_limit },
            queue_size: 10,
            queue_milliseconds: 60_000,
            ..app
        };
        let mut shared = shared(folder.path(), &[]);
        set(&mut shared.config);
        let table = Table::new(std::slice::from_ref(&app), &Table::default(), &shared.metrics);
        let (tables, receiver) = watch::channel(Arc::new(table));
        shared.tables = receiver.clone();
        let server = server(&shared);
        server.tasks().spawn(Links::new(0, server.tasks().clone()).follow(receiver));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { folder, shared, server, tables, app, listener }
    }

    /// Starts a worker, and waits until it is linked.
    pub(super) async fn worker(&mut self, welcome: Welcome) -> Worker {
        let instance = self.app.workers.len() as u64 + 1;
        let socket = self.folder.path().join(format!("{instance}.socket"));
        let worker = Worker::listen(&socket, welcome, self.server.tasks());
        self.app.workers.push(routes::Worker {
            name: format!("blog-{instance}"),
            instance,
            socket: socket.display().to_string(),
            capacity: welcome.capacity,
        });
        let former = Arc::clone(&self.tables.borrow());
        let apps = std::slice::from_ref(&self.app);
        self.tables.send_replace(Arc::new(Table::new(apps, &former, &self.shared.metrics)));
        let workers = self.app.workers.len();
        let linked = async {
            while self.pool().stats().workers < workers {
                tokio::task::yield_now().await;
            }
        };
        soon("a link to the worker", linked).await;
        worker
    }

    /// A worker that takes bodies while they arrive.
    pub(super) async fn streaming_worker(&mut self) -> Worker {
        self.worker(Welcome { capacity: 100, streams_bodies: true, ..Welcome::default() }).await
    }

    pub(super) fn pool(&self) -> Arc<crate::backend::pool::Pool<Arc<crate::backend::Link>>> {
        resets::pool(&self.server)
    }

    /// Connects a client that speaks HTTP/1.1, and sends the text.
    pub(super) async fn client(&self, sent: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = self.listener.accept().await.unwrap();
        let share = self.shared.clients.of(peer.ip());
        self.server.tasks().spawn(serve(
            Arc::clone(&self.server),
            near,
            peer,
            Transport::Plain,
            share,
            Arc::new(()),
        ));
        client.write_all(sent.as_bytes()).await.unwrap();
        client
    }

    /// Connects a client that speaks HTTP/2.
    pub(super) async fn client_h2(&self) -> SendRequest<Bytes> {
        let far = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = self.listener.accept().await.unwrap();
        let serving = Arc::clone(&self.server);
        let refusal = Refusal::none(Arc::clone(&self.shared.metrics));
        let share = self.shared.clients.of(peer.ip());
        let client = Client::new(peer, peer.ip(), Transport::Tls, share, refusal);
        self.server.tasks().spawn(async move { drop(http2::serve(&serving, client, near).await) });
        let (requests, connection) = h2::client::handshake(far).await.unwrap();
        self.server.tasks().spawn(async { drop(connection.await) });
        requests.ready().await.unwrap()
    }
}

/// Reads from the client's connection until it has received `expected`.
pub(super) async fn read_until(client: &mut TcpStream, expected: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(expected) {
            let got = client.read_buf(&mut read).await.unwrap();
            assert!(got > 0, "closed after {}", read.escape_ascii());
        }
    };
    soon(expected, reading).await;
    String::from_utf8(read).unwrap()
}

/// Reads all that the client receives until its connection ends.
pub(super) async fn read_all(client: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let _reset = soon("the end of the connection", client.read_to_end(&mut read)).await;
    String::from_utf8(read).unwrap()
}
