//! Plays emperord for one worker.

use std::path::Path;
use std::sync::Arc;

use api::worker::attach_request::Message;
use api::worker::worker_service_server::{WorkerService, WorkerServiceServer};
use api::worker::{
    AttachRequest, AttachResponse, Drain, Ended, GetSpecRequest, GetSpecResponse, Spec, Stop, attach_response,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// A running server, which stops on drop.
pub(crate) struct Emperor {
    messages: mpsc::UnboundedReceiver<Message>,
    shared: Arc<Shared>,
    /// Dropping it ends the server's runtime abruptly, like `kill -9`.
    _alive: oneshot::Sender<()>,
}

struct Shared {
    spec: Spec,
    messages: mpsc::UnboundedSender<Message>,
    attached: Mutex<Option<mpsc::Sender<Result<AttachResponse, Status>>>>,
}

impl Emperor {
    pub(crate) fn serve(socket: &Path, spec: Spec) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { spec, messages: sender, attached: Mutex::default() });
        let (alive, dead) = oneshot::channel();
        let (service, socket) = (Service(Arc::clone(&shared)), socket.to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListenerStream::new(daemon::uds::listen(&socket).unwrap());
                let server = Server::builder().add_service(WorkerServiceServer::new(service));
                tokio::select! {
                    served = server.serve_with_incoming(listener) => served.unwrap(),
                    _dropped = dead => {}
                }
            });
        });
        Self { messages, shared, _alive: alive }
    }

    /// The worker's next message, except for its load.
    pub(crate) async fn next_message(&mut self) -> Message {
        loop {
            match self.messages.recv().await.expect("emperord serves") {
                Message::Load(_) => {}
                other => return other,
            }
        }
    }

    /// The worker's next load report.
    pub(crate) async fn load(&mut self) -> api::worker::Load {
        loop {
            if let Message::Load(load) = self.messages.recv().await.expect("emperord serves") {
                return load;
            }
        }
    }

    pub(crate) async fn drain(&self, grace_milliseconds: u32) {
        self.drain_for(grace_milliseconds, 0).await;
    }

    /// Drains, with another time for WebSockets.
    pub(crate) async fn drain_for(&self, grace_milliseconds: u32, websocket_grace_milliseconds: u32) {
        let drain = Drain { grace_milliseconds, websocket_grace_milliseconds };
        self.send(attach_response::Message::Drain(drain)).await;
    }

    pub(crate) async fn stop(&self) {
        self.send(attach_response::Message::Stop(Stop { reason: "test".to_owned() })).await;
    }

    /// Reports that the process of another worker has exited.
    pub(crate) async fn ended(&self, pid: u32) {
        self.send(attach_response::Message::Ended(Ended { pid })).await;
    }

    async fn send(&self, message: attach_response::Message) {
        let attached = self.shared.attached.lock().await;
        let response = AttachResponse { message: Some(message) };
        attached.as_ref().expect("a worker is attached").send(Ok(response)).await.unwrap();
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl WorkerService for Service {
    async fn get_spec(&self, _: Request<GetSpecRequest>) -> Result<Response<GetSpecResponse>, Status> {
        Ok(Response::new(GetSpecResponse { spec: Some(self.0.spec.clone()) }))
    }

    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (sender, responses) = mpsc::channel(8);
        let spec = attach_response::Message::Spec(self.0.spec.clone());
        sender.send(Ok(AttachResponse { message: Some(spec) })).await.unwrap();
        *self.0.attached.lock().await = Some(sender);
        let (shared, mut incoming) = (Arc::clone(&self.0), request.into_inner());
        TaskTracker::new().spawn(async move {
            while let Ok(Some(AttachRequest { message: Some(message) })) = incoming.message().await {
                let _test_is_over = shared.messages.send(message);
            }
            shared.attached.lock().await.take();
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}
