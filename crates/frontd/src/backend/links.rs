//! One shard's links to all workers of all backends.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use daemon::backoff::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::link::{ConnectError, Link, Next};
use super::pool::Pool;
use super::{Backends, Worker};

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
    worker: Worker,
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
    pub(crate) async fn follow<T: Backends>(mut self, mut tables: watch::Receiver<Arc<T>>) {
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            self.adjust(&*table);
            if tables.changed().await.is_err() {
                return;
            }
        }
    }

    fn adjust(&mut self, table: &impl Backends) {
        let workers = table.backends().flat_map(|it| it.workers.iter().map(move |worker| (&it.pool, worker)));
        let listed: HashMap<u64, _> =
            workers.map(|(pool, worker)| (worker.instance, (pool, worker))).collect();
        self.open.retain(|instance, open| {
            let stays = listed.get(instance).is_some_and(|(pool, _)| Arc::ptr_eq(pool, &open.pool));
            if !stays {
                open.retired.cancel();
            }
            stays
        });
        for (instance, (pool, worker)) in listed {
            self.open.entry(instance).or_insert_with(|| {
                let retired = CancellationToken::new();
                let target = Target { shard: self.shard, worker: worker.clone(), pool: Arc::clone(pool) };
                self.tasks.spawn(target.maintain(retired.clone()));
                Open { pool: Arc::clone(pool), retired }
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
        let Worker { name, instance, endpoint } = &self.worker;
        let connected = tokio::select! {
            connected = Link::connect(name, endpoint) => connected,
            () = retired.cancelled() => return End::Retired,
        };
        let (link, mut responses, room) = match connected {
            Ok(connected) => connected,
            Err(error @ ConnectError::NoTcp { .. }) => {
                warn!(worker = name, "{error}");
                return End::Retired;
            }
            Err(error) => {
                debug!(worker = name, error = &error as &dyn std::error::Error, "no link to the worker");
                return End::Broken;
            }
        };
        backoff.reset();
        debug!(
            worker = name,
            shard = self.shard,
            capacity = room.requests,
            sockets = room.sockets,
            "connected to worker"
        );
        self.pool.set_streams_bodies(link.streams_bodies());
        self.pool.link(self.shard, *instance, room, Arc::clone(&link));
        let (mut end, mut broken) = (End::Broken, None);
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
                    self.pool.unlink(self.shard, *instance);
                    link.retire();
                }
                Next::Lag { blocked } => {
                    self.pool.set_blocked(self.shard, *instance, blocked);
                    if blocked {
                        link.recall_queued();
                    }
                }
                Next::Closed => break,
                Next::Broken(status) => {
                    broken = Some(status);
                    break;
                }
            }
        }
        match end {
            End::Retired => self.pool.unlink(self.shard, *instance),
            // This must come before the exchanges settle, which happens when `responses` is dropped:
            // otherwise they could be retried on the same worker.
            End::Broken => {
                // One line per worker, not one per shard.
                if self.pool.lose(self.shard, *instance)
                    && let Some(status) = broken
                {
                    warn!(worker = name, reason = status.message(), "lost the worker");
                }
            }
        }
        debug!(worker = name, shard = self.shard, "disconnected from worker");
        end
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::pool::Admission;
    use crate::backend::{Backend, Limits};

    struct Listed(Vec<Backend>);

    impl Backends for Listed {
        fn backends(&self) -> impl Iterator<Item = &Backend> {
            self.0.iter()
        }
    }

    fn worker(endpoint: &str) -> Worker {
        Worker { name: "blog-1".to_owned(), instance: 7, endpoint: endpoint.into() }
    }

    /// If tables change quickly, a shard only sees the last one.
    #[tokio::test]
    async fn an_app_that_was_removed_and_added_back_gets_new_links() {
        let limits = Limits { queue: Duration::ZERO, request: None, idle: None, body: 0, message: 0 };
        let listed = |pool: &Arc<Pool<Arc<Link>>>| {
            let workers = vec![worker("/nowhere")];
            Listed(vec![Backend { name: "blog".into(), workers, pool: Arc::clone(pool), limits }])
        };
        let (first, again) = (Pool::new(Admission::Queue(1)), Pool::new(Admission::Queue(1)));
        let mut links = Links::new(0, TaskTracker::new());
        links.adjust(&listed(&first));
        let before = links.open[&7].retired.clone();
        links.adjust(&listed(&first));
        assert!(!before.is_cancelled());
        links.adjust(&listed(&again));
        assert!(before.is_cancelled());
        assert!(Arc::ptr_eq(&links.open[&7].pool, &again));
    }

    #[tokio::test]
    async fn a_worker_over_tcp_is_refused_and_not_tried_again() {
        for endpoint in ["tcp://192.0.2.1:9000", "tls://worker.example:9000"] {
            let (worker, pool) = (worker(endpoint), Pool::new(Admission::Queue(1)));
            let error = Link::connect(&worker.name, &worker.endpoint).await.unwrap_err().to_string();
            let expected =
                format!("connect to worker blog-1 at {endpoint}: workers over TCP aren't supported yet");
            assert_eq!(error, expected);
            Target { shard: 0, worker, pool }.maintain(CancellationToken::new()).await;
        }
    }
}
