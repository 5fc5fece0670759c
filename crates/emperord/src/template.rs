//! The process that an app's workers are forked from: orders go there, reports come back.

use std::time::Duration;

use api::worker::template_order::Message as Order;
use api::worker::template_report::Message as Report;
use api::worker::{TemplateOrder, TemplateReport};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::process::{Ending, Process};

/// How long the last report of a template that has ended is waited for: what it forked may hold the other end.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Where orders go. Dropped, the template ends.
#[derive(Debug)]
pub(crate) struct Orders(mpsc::UnboundedSender<Order>);

impl Orders {
    /// Sends an order. One that breaks is known by the end of the process.
    pub(crate) fn send(&self, order: Order) {
        let _ending = self.0.send(order);
    }
}

/// What a template says.
#[derive(Debug)]
pub enum Said {
    /// A report.
    Report(Report),
    /// Nothing more: it has ended.
    Ended(Ending),
}

/// Speaks with the template that is `process`; all that it says goes to `said`, its end last.
pub(crate) fn speak<S, F>(tasks: &TaskTracker, process: Process, stream: UnixStream, said: S) -> Orders
where
    S: Fn(Said) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (reports, orders) = stream.into_split();
    // Bounded by the workers that an app may have.
    let (sender, waiting) = mpsc::unbounded_channel();
    tasks.spawn(send(orders, waiting));
    tasks.spawn(async move {
        let ending = hear(reports, process, &said).await;
        said(Said::Ended(ending)).await;
    });
    Orders(sender)
}

/// The end of this closes our side, which the template takes for the end of its life.
async fn send(mut orders: OwnedWriteHalf, mut waiting: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = waiting.recv().await {
        let frame = daemon::framed::frame(&TemplateOrder { message: Some(order) });
        if orders.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn hear<F: Future<Output = ()>>(
    mut reports: OwnedReadHalf,
    process: Process,
    said: &impl Fn(Said) -> F,
) -> Ending {
    let listen = async {
        // An error is the end of a process that was killed.
        while let Ok(Some(TemplateReport { message })) = daemon::framed::receive_async(&mut reports).await {
            if let Some(report) = message {
                said(Said::Report(report)).await;
            }
        }
    };
    tokio::pin!(listen);
    tokio::select! {
        () = &mut listen => process.ended().await,
        ending = process.ended() => {
            let _it_holds_our_end = tokio::time::timeout(LAST_WORDS, listen).await;
            ending
        }
    }
}
