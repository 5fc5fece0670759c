//! An app's template, from which its workers are forked: orders go to it, and its reports are verified.

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

use crate::pidfd::{Ending, Process};
use crate::spec::{self, Failure, WorkerSpec};

/// How long to wait for the last report of a template that has exited: a forked process may keep the other
/// end open.
const LAST_REPORT_LIMIT: Duration = Duration::from_millis(250);

/// The process that an app's workers are forked from. It exits when this is dropped.
///
/// ```text
///   started ──imported──▶ forks at each order ──▶ ended: new generation, app or emperord gone
///      └── can't import: all its orders fail
/// ```
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) process: Process,
    /// The generation that it imports.
    pub(crate) generation: u64,
    pub(crate) import: Import,
    /// Why it can't import the app.
    pub(crate) failure: Option<Failure>,
    orders: mpsc::UnboundedSender<Order>,
    next_fork: ForkId,
}

/// Whether a template has imported its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    Underway,
    Done,
}

/// Identifies an order of a template to fork a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkId(u64);

/// A report of a template.
#[derive(Debug)]
pub enum TemplateEvent {
    /// It has imported the app.
    Imported,
    /// It can't import the app, and exits.
    Failed(Failure),
    /// A worker was forked, or the fork failed.
    Forked {
        /// The order.
        id: ForkId,
        /// The worker, or why the fork failed.
        forked: Result<Process, String>,
    },
    /// It has exited.
    Ended(Ending),
}

impl Template {
    /// Has `process` import the app of `spec`, and gives `handler` all of its reports, and finally its exit.
    pub(crate) fn import<S, F>(
        tasks: &TaskTracker,
        (process, stream): (Process, UnixStream),
        spec: &WorkerSpec,
        handler: S,
    ) -> Self
    where
        S: Fn(TemplateEvent) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send,
    {
        let (reports, orders) = stream.into_split();
        // Bounded by the number of workers that an app may have.
        let (sender, waiting) = mpsc::unbounded_channel();
        tasks.spawn(send(orders, waiting));
        let reporter = Reporter { users: process.identity().users(), process: process.clone() };
        tasks.spawn(async move {
            let ending = receive_reports(reports, reporter, &handler).await;
            handler(TemplateEvent::Ended(ending)).await;
        });
        let (import, next_fork) = (Import::Underway, ForkId(1));
        let template =
            Self { process, generation: spec.generation, import, failure: None, orders: sender, next_fork };
        // Sent twice: workerd reads the first copy, and the Python that it becomes reads the second.
        let spec = spec::spec(spec);
        template.send(Order::Spec(spec.clone()));
        template.send(Order::Spec(spec));
        template
    }

    /// Orders to fork a worker, once the app is imported. The report contains the id that this returns.
    pub(crate) fn fork(&mut self, worker: &WorkerName) -> ForkId {
        let fork = self.next_fork;
        self.next_fork.0 += 1;
        self.send(Order::Fork(Fork { id: fork.0, worker: worker.to_string() }));
        fork
    }

    /// Whether it is the process with that pid.
    pub(crate) fn is_process(&self, pid: u32) -> bool {
        self.process.identity().pid == pid
    }

    /// If an order is lost, the exit of the process will be reported.
    fn send(&self, order: Order) {
        let _ending = self.orders.send(order);
    }
}

/// The template's process, as the source of reports. It runs the app's code, so they are verified.
struct Reporter {
    process: Process,
    /// Its users when it was started.
    users: Vec<u32>,
}

impl Reporter {
    fn event(&self, report: Report) -> TemplateEvent {
        match report {
            Report::Imported(_) => TemplateEvent::Imported,
            Report::Failed(failed) => TemplateEvent::Failed(spec::failure(failed)),
            Report::Forked(Forked { id, pid: 0, error }) => {
                TemplateEvent::Forked { id: ForkId(id), forked: Err(error) }
            }
            Report::Forked(Forked { id, pid, .. }) => {
                TemplateEvent::Forked { id: ForkId(id), forked: self.fork(pid) }
            }
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
            false => Err(not_a_fork(&fork)),
        }
    }
}

/// The error for a process that a template reports, but can't have forked.
pub(crate) fn not_a_fork(process: &Process) -> String {
    format!("process {} is no fork of its template", process.identity().pid)
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
    reporter: Reporter,
    handler: &impl Fn(TemplateEvent) -> F,
) -> Ending {
    let listen = async {
        // An error means that the process was killed.
        while let Ok(Some(TemplateReport { message })) = daemon::framed::receive_async(&mut reports).await {
            if let Some(report) = message {
                handler(reporter.event(report)).await;
            }
        }
    };
    tokio::pin!(listen);
    tokio::select! {
        () = &mut listen => reporter.process.ended().await,
        ending = reporter.process.ended() => {
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
        let template = Reporter { process, users };
        assert!(template.fork(child.id()).is_ok(), "a child of this process, as forks are");
        for other in [1, std::process::id()] {
            let event = template.event(Report::Forked(Forked { id: 7, pid: other, error: String::new() }));
            let TemplateEvent::Forked { id: ForkId(7), forked: Err(error) } = event else {
                panic!("{event:?}")
            };
            assert_eq!(error, format!("process {other} is no fork of its template"));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
