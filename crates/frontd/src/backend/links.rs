//! One shard's links to all workers in the routing table.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use daemon::backoff::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::Link;
use super::link::Next;
use crate::backend::pool::Pool;
use crate::site::table::Table;

/// Opens, keeps and retires the links of one shard.
#[derive(Debug)]
pub(crate) struct Links {
    shard: usize,
    tasks: TaskTracker,
    /// By worker instance.
    open: HashMap<u64, Open>,
}

/// An open link, or one that is being reconnected.
#[derive(Debug)]
struct Open {
    pool: Arc<Pool<Arc<Link>>>,
    /// Cancelled when the worker leaves the table, or when its app got a new pool.
    retired: CancellationToken,
}

/// A worker to link to.
struct Target {
    shard: usize,
    instance: u64,
    worker: String,
    socket: PathBuf,
    pool: Arc<Pool<Arc<Link>>>,
}

/// Why a link ended.
#[derive(PartialEq, Eq)]
enum End {
    /// The worker left the table or drains: don't reconnect.
    Retired,
    /// The link broke: the worker may still be there.
    Broken,
}

impl Links {
    pub(crate) fn new(shard: usize, tasks: TaskTracker) -> Self {
        Self { shard, tasks, open: HashMap::new() }
    }

    /// Follows the table until its sender is dropped.
    pub(crate) async fn follow(mut self, mut tables: watch::Receiver<Arc<Table>>) {
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            self.adjust(&table);
            if tables.changed().await.is_err() {
                return;
            }
        }
    }

    fn adjust(&mut self, table: &Table) {
        let listed: HashMap<u64, _> =
            table.workers().map(|(app, worker)| (worker.instance, (app, worker))).collect();
        self.open.retain(|instance, open| {
            let stays = listed.get(instance).is_some_and(|(app, _)| Arc::ptr_eq(app.pool(), &open.pool));
            if !stays {
                open.retired.cancel();
            }
            stays
        });
        for (instance, (app, worker)) in listed {
            self.open.entry(instance).or_insert_with(|| {
                let retired = CancellationToken::new();
                let target = Target {
                    shard: self.shard,
                    instance,
                    worker: worker.name.clone(),
                    socket: worker.socket.clone(),
                    pool: Arc::clone(app.pool()),
                };
                self.tasks.spawn(target.maintain(retired.clone()));
                Open { pool: Arc::clone(app.pool()), retired }
            });
        }
    }
}

impl Target {
    async fn maintain(self, retired: CancellationToken) {
        let mut backoff = Backoff::new();
        while self.run_link(&retired, &mut backoff).await == End::Broken {
            tokio::select! {
                () = backoff.wait() => {}
                () = retired.cancelled() => return,
            }
        }
    }

    /// Keeps one link from connecting to its end.
    async fn run_link(&self, retired: &CancellationToken, backoff: &mut Backoff) -> End {
        let connected = tokio::select! {
            connected = Link::connect(&self.worker, &self.socket) => connected,
            () = retired.cancelled() => return End::Retired,
        };
        let (link, mut responses, capacity) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                debug!(
                    worker = self.worker,
                    error = &error as &dyn std::error::Error,
                    "no link to the worker"
                );
                return End::Broken;
            }
        };
        backoff.reset();
        debug!(worker = self.worker, shard = self.shard, capacity, "connected to worker");
        self.pool.link(self.shard, self.instance, capacity, Arc::clone(&link));
        let mut end = End::Broken;
        let mut checks = pin!(link.run_checks());
        loop {
            let next = tokio::select! {
                biased;
                next = responses.next() => next,
                () = &mut checks => Next::Handled,
                () = retired.cancelled(), if end == End::Broken => Next::Draining,
            };
            match next {
                Next::Handled => {}
                Next::Draining => {
                    end = End::Retired;
                    self.pool.unlink(self.shard, self.instance);
                    link.retire();
                }
                Next::Closed => break,
                Next::Broken(status) => {
                    if end == End::Broken {
                        warn!(
                            worker = self.worker,
                            shard = self.shard,
                            reason = status.message(),
                            "lost the worker"
                        );
                    }
                    break;
                }
            }
        }
        match end {
            End::Retired => self.pool.unlink(self.shard, self.instance),
            // This must come before the exchanges settle, which happens when `responses` is dropped:
            // otherwise they could be retried on the same worker.
            End::Broken => self.pool.lose(self.shard, self.instance),
        }
        debug!(worker = self.worker, shard = self.shard, "disconnected from worker");
        end
    }
}

#[cfg(test)]
mod tests {
    use api::routes;

    use super::*;
    use crate::observe::metrics::Metrics;

    /// If tables change quickly, a shard only sees the last one.
    #[tokio::test]
    async fn an_app_that_was_removed_and_added_back_gets_new_links() {
        let worker = routes::Worker { name: "blog-1".to_owned(), instance: 7, ..routes::Worker::default() };
        let app = routes::App { name: "blog".to_owned(), workers: vec![worker], ..routes::App::default() };
        let metrics = Metrics::new();
        let table = |apps: &[_], former: &Table| Table::new(apps, former, &metrics);
        let first = table(std::slice::from_ref(&app), &Table::default());
        let without = table(&[], &first);
        let again = table(std::slice::from_ref(&app), &without);
        let mut links = Links::new(0, TaskTracker::new());
        links.adjust(&first);
        let before = links.open[&7].retired.clone();
        links.adjust(&first);
        assert!(!before.is_cancelled());
        links.adjust(&again);
        assert!(before.is_cancelled());
        assert!(Arc::ptr_eq(&links.open[&7].pool, again.apps()[0].pool()));
    }
}
