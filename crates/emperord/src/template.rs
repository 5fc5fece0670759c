//! Communicates with a template, from which an app's workers are forked.

use std::time::Duration;

use api::WorkerName;
use api::worker::template_order::Message as Order;
use api::worker::template_report::Message as Report;
use api::worker::{Fork, Forked, TemplateOrder, TemplateReport};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::driver::{Failure, WorkerSpec};
use crate::process::{Ending, Process};
use crate::rpc;

/// How long to wait for the last report of a template that has exited: a forked process may keep the other
/// end open.
const LAST_REPORT_LIMIT: Duration = Duration::from_millis(250);

/// Sends orders. When it is dropped, the template exits.
#[derive(Debug)]
pub(crate) struct Orders(mpsc::UnboundedSender<Order>);

impl Orders {
    /// Orders to import an app. Sent twice: workerd reads the first copy, and the Python that it becomes
    /// reads the second.
    pub(crate) fn import(&self, spec: &WorkerSpec) {
        let spec = rpc::worker_spec(spec);
        self.send(Order::Spec(spec.clone()));
        self.send(Order::Spec(spec));
    }

    /// Orders to fork a worker. The answer contains `id`.
    pub(crate) fn fork(&self, id: u64, worker: &WorkerName) {
        self.send(Order::Fork(Fork { id, worker: worker.to_string() }));
    }

    /// If an order is lost, the exit of the process will be reported.
    fn send(&self, order: Order) {
        let _ending = self.0.send(order);
    }
}

/// A report of a template.
#[derive(Debug)]
pub enum TemplateEvent {
    /// It has imported the app.
    Imported,
    /// It can't import the app, and exits.
    Failed(Failure),
    /// A worker was forked, or the fork failed.
    Forked {
        /// The id of the order.
        id: u64,
        /// The worker, or why the fork failed.
        forked: Result<Process, String>,
    },
    /// It has exited.
    Ended(Ending),
}

/// The template's process. It runs the app's code, so its reports are verified.
struct Template {
    process: Process,
    /// Its users when it was started.
    users: Vec<u32>,
}

impl Template {
    fn event(&self, report: Report) -> TemplateEvent {
        match report {
            Report::Imported(_) => TemplateEvent::Imported,
            Report::Failed(failed) => TemplateEvent::Failed(rpc::worker_failure(failed)),
            Report::Forked(Forked { id, pid: 0, error }) => TemplateEvent::Forked { id, forked: Err(error) },
            Report::Forked(Forked { id, pid, .. }) => TemplateEvent::Forked { id, forked: self.fork(pid) },
        }
    }

    /// Verifies a fork: it has to be a child of emperord, which inherits orphans, and to have the same user.
    fn fork(&self, pid: u32) -> Result<Process, String> {
        let fork = Process::open(pid).map_err(|it| format!("watch process {pid}: {it}"))?;
        let identity = fork.identity();
        let now = self.process.identity().users();
        let has_its_user = self.users.iter().chain(&now).any(|user| identity.has_user(*user));
        match has_its_user && identity.parent() == Some(std::process::id()) {
            true => Ok(fork),
            false => Err(no_fork(&fork)),
        }
    }
}

pub(crate) fn no_fork(process: &Process) -> String {
    format!("process {} is no fork of its template", process.identity().pid)
}

/// Starts to communicate with the template `process`. `handler` receives all reports, and finally its exit.
pub(crate) fn communicate<S, F>(
    tasks: &TaskTracker,
    process: Process,
    stream: UnixStream,
    handler: S,
) -> Orders
where
    S: Fn(TemplateEvent) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (reports, orders) = stream.into_split();
    // Bounded by the number of workers that an app may have.
    let (sender, waiting) = mpsc::unbounded_channel();
    tasks.spawn(send(orders, waiting));
    let users = process.identity().users();
    let template = Template { process, users };
    tasks.spawn(async move {
        let ending = receive_reports(reports, template, &handler).await;
        handler(TemplateEvent::Ended(ending)).await;
    });
    Orders(sender)
}

/// When this returns, our end is closed, and the template exits.
async fn send(mut orders: OwnedWriteHalf, mut waiting: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = waiting.recv().await {
        let frame = daemon::framed::frame(&TemplateOrder { message: Some(order) });
        if orders.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn receive_reports<F: Future<Output = ()>>(
    mut reports: OwnedReadHalf,
    template: Template,
    handler: &impl Fn(TemplateEvent) -> F,
) -> Ending {
    let listen = async {
        // An error means that the process was killed.
        while let Ok(Some(TemplateReport { message })) = daemon::framed::receive_async(&mut reports).await {
            if let Some(report) = message {
                handler(template.event(report)).await;
            }
        }
    };
    tokio::pin!(listen);
    tokio::select! {
        () = &mut listen => template.process.ended().await,
        ending = template.process.ended() => {
            let _it_holds_our_end = tokio::time::timeout(LAST_REPORT_LIMIT, listen).await;
            ending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_template_can_only_report_its_own_forks() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        let users = process.identity().users();
        let template = Template { process, users };
        assert!(template.fork(child.id()).is_ok(), "a child of this process, as forks are");
        for other in [1, std::process::id()] {
            let event = template.event(Report::Forked(Forked { id: 7, pid: other, error: String::new() }));
            let TemplateEvent::Forked { id: 7, forked: Err(error) } = event else { panic!("{event:?}") };
            assert_eq!(error, format!("process {other} is no fork of its template"));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
