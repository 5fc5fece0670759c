//! The service for workers.

use std::sync::atomic::{AtomicU64, Ordering};

use api::WorkerName;
use api::worker::attach_request::Message;
use api::worker::attach_response::Message as Reply;
use api::worker::worker_service_server::WorkerService;
use api::worker::{
    AttachRequest, AttachResponse, Drain, Ended, GetSpecRequest, GetSpecResponse, Hello, Ready, Stop, Stuck,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::peer::Peer;
use super::{ask, ending};
use crate::messages::{Attaching, AttachmentId, Command, Event, Events, Load, Served, SpecError, Taking};
use crate::pidfd::Caller;
use crate::spec;
use crate::state::Interface;

/// The number of commands that may wait for a worker that doesn't read them.
const BACKLOG: usize = 32;
/// The longest name of an interpreter or an event loop that is accepted, in bytes.
const MAX_NAME: usize = 64;
/// The largest capacity that a worker may report: no file allows more threads.
const MAX_CAPACITY: u32 = u16::MAX as u32;

pub(super) struct Worker {
    events: Events,
    tasks: TaskTracker,
    attachments: AtomicU64,
}

impl Worker {
    pub(super) fn new(events: Events, tasks: TaskTracker) -> Self {
        Self { events, tasks, attachments: AtomicU64::new(0) }
    }
}

type Replies =
    tokio_stream::adapters::Map<ReceiverStream<Command>, fn(Command) -> Result<AttachResponse, Status>>;

#[tonic::async_trait]
impl WorkerService for Worker {
    async fn get_spec(&self, request: Request<GetSpecRequest>) -> Result<Response<GetSpecResponse>, Status> {
        let caller = Peer::of(&request)?.caller()?;
        let worker = name(&request.into_inner().worker)?;
        let spec = ask(&self.events, |reply| Event::GetSpec { worker, caller, reply }).await?;
        Ok(Response::new(GetSpecResponse { spec: Some(spec::spec(&spec.map_err(|it| refusal(&it))?)) }))
    }

    type AttachStream = Replies;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Replies>, Status> {
        let peer = Peer::of(&request)?;
        let caller = peer.caller()?;
        let mut messages = request.into_inner();
        let Some(Message::Hello(hello)) = messages.message().await?.and_then(|it| it.message) else {
            return Err(Status::invalid_argument("the first message is not `Hello`"));
        };
        // The hello message may have taken its time.
        peer.check_is_there()?;
        let pid = caller.identity.pid;
        if hello.pid != pid {
            return Err(Status::permission_denied(format!("process {pid} says that it is {}", hello.pid)));
        }
        let attachment = AttachmentId(self.attachments.fetch_add(1, Ordering::Relaxed));
        let (commands, waiting) = mpsc::channel(BACKLOG);
        let stream = Attached { worker: name(&hello.worker)?, attachment, instance: hello.instance };
        let attaching = stream.attaching(caller, hello, commands);
        self.events.send(Event::Attach(Box::new(attaching))).await.map_err(|_| ending())?;
        self.tasks.spawn(stream.listen(messages, self.events.downgrade()));
        Ok(Response::new(ReceiverStream::new(waiting).map(reply as fn(_) -> _)))
    }
}

/// An open control stream.
struct Attached {
    worker: WorkerName,
    attachment: AttachmentId,
    instance: u64,
}

impl Attached {
    fn attaching(&self, caller: Caller, hello: Hello, commands: mpsc::Sender<Command>) -> Attaching {
        Attaching {
            worker: self.worker.clone(),
            caller,
            served: hello.ready.map(|ready| served(self.instance, ready)),
            taking: if hello.draining { Taking::NothingMore } else { Taking::Requests },
            attachment: self.attachment,
            commands,
        }
    }

    /// Passes the worker's messages on until the worker or emperord exits.
    async fn listen(self, mut messages: Streaming<AttachRequest>, events: mpsc::WeakSender<Event>) {
        // An error means that the process was killed.
        while let Ok(Some(AttachRequest { message: Some(message) })) = messages.message().await {
            let (Some(event), Some(events)) = (self.event(message), events.upgrade()) else { break };
            if events.send(event).await.is_err() {
                return;
            }
        }
        if let Some(events) = events.upgrade() {
            let Self { worker, attachment, .. } = self;
            let _ending = events.send(Event::Detached { worker, attachment }).await;
        }
    }

    /// Converts a message. None if it isn't allowed here.
    fn event(&self, message: Message) -> Option<Event> {
        let (worker, attachment) = (self.worker.clone(), self.attachment);
        Some(match message {
            Message::Hello(_) => return None,
            Message::Ready(ready) => {
                Event::Ready { worker, attachment, served: served(self.instance, ready) }
            }
            Message::Failed(failed) => Event::Failed { worker, attachment, failure: spec::failure(failed) },
            Message::Load(load) => {
                let api::worker::Load { busy, requests, memory, private_memory: private, .. } = load;
                let api::worker::Load { sockets, messages, lag_milliseconds, tasks, .. } = load;
                let load =
                    Load { busy, requests, memory, private, sockets, messages, lag_milliseconds, tasks };
                Event::Load { worker, attachment, load }
            }
            Message::Unwell(unwell) => {
                Event::Unwell { worker, attachment, message: spec::bounded(unwell.message) }
            }
            Message::Stuck(Stuck { held: false }) => Event::Stuck { worker, attachment },
            Message::Stuck(Stuck { held: true }) => Event::Held { worker, attachment },
            Message::Draining(_) | Message::Drained(_) => Event::Draining { worker, attachment },
        })
    }
}

fn name(worker: &str) -> Result<WorkerName, Status> {
    WorkerName::parse(worker).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refusal(error: &SpecError) -> Status {
    match error {
        SpecError::NotWanted(_) => Status::not_found(error.to_string()),
        SpecError::Taken { .. } | SpecError::User { .. } => Status::permission_denied(error.to_string()),
        SpecError::Socket(_) => Status::failed_precondition(error.to_string()),
    }
}

fn served(instance: u64, ready: Ready) -> Served {
    // A capacity of 0 would be useless and is treated as 1.
    let capacity = ready.capacity.clamp(1, MAX_CAPACITY);
    let interface = match ready.interface() {
        api::worker::Interface::Unspecified => Interface::Unknown,
        api::worker::Interface::Wsgi => Interface::Wsgi,
        api::worker::Interface::Asgi => Interface::Asgi,
    };
    Served {
        instance,
        capacity,
        python: shortened(ready.python),
        interface,
        event_loop: shortened(ready.r#loop),
    }
}

fn shortened(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_NAME));
    name
}

fn reply(command: Command) -> Result<AttachResponse, Status> {
    let message = match command {
        Command::Run(run) => Reply::Spec(spec::spec(&run)),
        Command::Drain(order) => Reply::Drain(Drain {
            grace_milliseconds: spec::milliseconds(order.grace),
            websocket_grace_milliseconds: spec::milliseconds(order.sockets),
        }),
        Command::Stop(reason) => Reply::Stop(Stop { reason }),
        Command::Ended(pid) => Reply::Ended(Ended { pid }),
    };
    Ok(AttachResponse { message: Some(message) })
}
