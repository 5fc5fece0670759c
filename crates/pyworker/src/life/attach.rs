//! Keeps this worker attached to emperord as long as the process lives.

use std::time::Duration;

use api::worker::attach_request::Message;
use api::worker::worker_service_client::WorkerServiceClient;
use api::worker::{
    AttachRequest, AttachResponse, Drained, Draining, Hello, Load, Spec, Stuck, Unwell, attach_response,
};
use daemon::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::memory::{self, PrivateMemory};
use super::state::{End, WorkerState};
use crate::executor::Host;
use crate::python::log;

/// How often the load is reported while it changes.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long emperord may take to close the stream after this worker has reported its end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A command of emperord.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// Run this.
    Run(Box<Spec>),
    /// Accept nothing more, finish within these times, and exit.
    Drain(DrainOrder),
    /// Exit now.
    Stop(String),
    /// The process of another worker has exited.
    Ended(u32),
}

/// How long a drain may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainOrder {
    /// For running requests.
    pub(crate) grace: Duration,
    /// For open WebSockets.
    pub(crate) sockets: Duration,
}

/// This worker's client of `WorkerService`.
pub(crate) struct Attachment {
    client: WorkerServiceClient<Channel>,
    worker: String,
    /// Distinguishes this process from others with the same name.
    instance: u64,
    state: watch::Receiver<WorkerState>,
    commands: mpsc::Sender<Command>,
    host: Host,
    private_memory: PrivateMemory,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection to emperord was lost.
    Lost,
    /// emperord knows that this worker exits.
    EndReported,
}

impl Attachment {
    /// Creates the attachment of `worker`. It connects with `channel`, and reports `state` and the load of
    /// `host`.
    pub(crate) fn new(
        channel: Channel,
        worker: &str,
        state: watch::Receiver<WorkerState>,
        commands: mpsc::Sender<Command>,
        host: Host,
    ) -> Self {
        let client = WorkerServiceClient::new(channel);
        let instance = fastrand::u64(1..);
        let private_memory = PrivateMemory::default();
        let worker = worker.to_owned();
        Self { client, worker, instance, state, commands, host, private_memory }
    }

    /// Attaches, and reconnects when emperord was down, until it has reported this worker's end.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut attached = true;
        loop {
            match self.attach(&mut backoff, &mut attached).await {
                Ok(Outcome::EndReported) => return,
                Ok(Outcome::Lost) => log_away(&mut attached, "it ended the stream"),
                Err(status) => log_away(&mut attached, status.message()),
            }
            backoff.wait().await;
        }
    }

    /// Handles one stream until it ends.
    async fn attach(&mut self, backoff: &mut Backoff, attached: &mut bool) -> Result<Outcome, Status> {
        let (requests, outgoing) = mpsc::channel(8);
        let mut reported = self.state.borrow_and_update().clone();
        // The hello message doesn't contain these.
        (reported.end, reported.is_stuck, reported.is_held) = (None, false, false);
        send(&requests, Message::Hello(self.hello(&reported))).await;
        let mut answers = self.client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        backoff.reset();
        if !std::mem::replace(attached, true) {
            tracing::debug!("attached to emperord again");
        }
        let mut load_told = Load::default();
        let mut ticks = interval(LOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = self.state.borrow_and_update().clone();
            report_changes(&requests, &reported, &now).await;
            if now.end.is_some() {
                break;
            }
            reported = now;
            tokio::select! {
                answer = answers.message() => match answer? {
                    Some(answer) => self.handle(answer).await,
                    None => return Ok(Outcome::Lost),
                },
                _gone = self.state.changed() => {}
                _ = ticks.tick(), if reported.ready.is_some() => {
                    log::tick();
                    let load = self.load().await;
                    if load != load_told {
                        load_told = load;
                        send(&requests, Message::Load(load)).await;
                    }
                }
            }
        }
        drop(requests);
        let ended = timeout(END_LIMIT, async { while let Ok(Some(_)) = answers.message().await {} });
        let _overdue = ended.await;
        Ok(Outcome::EndReported)
    }

    fn hello(&self, state: &WorkerState) -> Hello {
        Hello {
            worker: self.worker.clone(),
            pid: std::process::id(),
            instance: self.instance,
            generation: state.generation,
            ready: state.ready.clone(),
            draining: state.draining,
        }
    }

    async fn load(&mut self) -> Load {
        let work = self.host.requests.work();
        let busy = u32::try_from(work.busy).unwrap_or(u32::MAX);
        let memory = memory::resident();
        let private_memory = self.private_memory.where_over(self.host.spec.recycle_memory(), memory).await;
        let sockets = self.host.shutdown.open_sockets();
        Load {
            busy,
            requests: work.ended,
            memory,
            private_memory,
            sockets,
            messages: self.host.load.messages(),
            lag_milliseconds: self.host.load.take_lag(),
            tasks: self.host.load.tasks(),
        }
    }

    async fn handle(&self, answer: AttachResponse) {
        let command = match answer.message {
            Some(attach_response::Message::Spec(spec)) => Command::Run(Box::new(spec)),
            Some(attach_response::Message::Drain(drain)) => Command::Drain(DrainOrder {
                grace: Duration::from_millis(drain.grace_milliseconds.into()),
                sockets: Duration::from_millis(drain.websocket_grace_milliseconds.into()),
            }),
            Some(attach_response::Message::Stop(stop)) => Command::Stop(stop.reason),
            Some(attach_response::Message::Ended(ended)) => Command::Ended(ended.pid),
            // A command of a newer emperord, which this version doesn't know.
            None => return,
        };
        let _ending = self.commands.send(command).await;
    }
}

/// Sends what has changed in `now`.
async fn report_changes(requests: &mpsc::Sender<AttachRequest>, reported: &WorkerState, now: &WorkerState) {
    if let Some(message) = now.unwell.as_ref().filter(|_| now.unwell != reported.unwell) {
        send(requests, Message::Unwell(Unwell { message: message.clone() })).await;
    }
    if let (None, Some(ready)) = (&reported.ready, &now.ready) {
        send(requests, Message::Ready(ready.clone())).await;
    }
    if now.draining && !reported.draining {
        send(requests, Message::Draining(Draining {})).await;
    }
    if now.is_stuck && !reported.is_stuck {
        send(requests, Message::Stuck(Stuck { held: false })).await;
    }
    if now.is_held && !reported.is_held {
        send(requests, Message::Stuck(Stuck { held: true })).await;
    }
    match &now.end {
        Some(End::Failed(failed)) => send(requests, Message::Failed(failed.clone())).await,
        Some(End::Drained) => send(requests, Message::Drained(Drained {})).await,
        None => {}
    }
}

async fn send(requests: &mpsc::Sender<AttachRequest>, message: Message) {
    // A broken stream is noticed where its responses are read.
    let _broken = requests.send(AttachRequest { message: Some(message) }).await;
}

fn log_away(attached: &mut bool, reason: &str) {
    if std::mem::replace(attached, false) {
        // The words of gRPC tell an operator nothing.
        tracing::debug!(reason, "the connection to emperord has ended");
        tracing::warn!(
            "emperord has exited or doesn't respond: this worker keeps serving, and connects again"
        );
    }
}
