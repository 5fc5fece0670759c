//! Holds requests that arrive before the first routing table, so that no request is refused while frontd
//! starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::table::Table;

/// How many requests may wait: as many as the default queue of an app.
const MAX_WAITING: usize = 1000;

/// How long a request may wait: as long as in the default queue of an app.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The requests that wait for the first routing table.
#[derive(Debug, Default)]
pub(crate) struct FirstTable {
    waiting: AtomicUsize,
}

/// Counts one waiting request until it is dropped.
struct WaitGuard<'a>(&'a AtomicUsize);

impl FirstTable {
    /// Waits for the first table. Returns `false` if too many requests already wait, if it takes too long, or
    /// if the drain begins.
    pub(crate) async fn wait(
        &self,
        mut tables: watch::Receiver<Arc<Table>>,
        drain: &CancellationToken,
    ) -> bool {
        let Some(_guard) = self.register() else { return false };
        let known = async { tables.wait_for(|it| it.is_known()).await.is_ok() };
        let known = drain.run_until_cancelled(tokio::time::timeout(MAX_WAIT, known)).await;
        matches!(known, Some(Ok(true)))
    }

    fn register(&self) -> Option<WaitGuard<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            return Some(WaitGuard(&self.waiting));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        None
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn waiting_requests_are_bounded_in_number_and_time() {
        let (tables, receiver) = watch::channel(Arc::new(Table::default()));
        let (first, drain) = (FirstTable::default(), CancellationToken::new());
        let wait = || first.wait(receiver.clone(), &drain);
        assert!(!wait().await, "the wait has no time limit");
        assert_eq!(first.waiting(), 0);

        let guards: Vec<_> = std::iter::from_fn(|| first.register()).collect();
        assert_eq!(guards.len(), MAX_WAITING);
        assert!(!tokio::time::timeout(Duration::ZERO, wait()).await.expect("too many requests wait"));
        drop(guards);

        let (waited, ()) = tokio::join!(wait(), async {
            tables.send_replace(Arc::new(Table::new(&[], &Table::default(), &Metrics::new())));
        });
        assert!(waited);
        assert_eq!(first.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_during_a_drain() {
        let (_tables, receiver) = watch::channel(Arc::new(Table::default()));
        let (first, drain) = (FirstTable::default(), CancellationToken::new());
        let (waited, ()) = tokio::join!(first.wait(receiver.clone(), &drain), async { drain.cancel() });
        assert!(!waited);
        assert!(!tokio::time::timeout(Duration::ZERO, first.wait(receiver, &drain)).await.unwrap());
    }
}
