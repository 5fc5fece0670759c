//! Holds the requests that arrive before the first routing table, so that a first start refuses nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::table::Table;

/// Requests that may wait: as many as an app's queue holds by default.
const MOST: usize = 1000;

/// How long one waits: as long as in an app's queue by default.
const LIMIT: Duration = Duration::from_secs(30);

/// The requests that wait for the first routing table.
#[derive(Debug, Default)]
pub(crate) struct FirstTable {
    waiting: AtomicUsize,
}

/// One request's place among them, until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl FirstTable {
    /// Waits until there is a table. Returns whether there is: not when too many wait already, when it takes too long, or
    /// when the drain begins.
    pub(crate) async fn wait(
        &self,
        mut tables: watch::Receiver<Arc<Table>>,
        drain: &CancellationToken,
    ) -> bool {
        let Some(_place) = self.enter() else { return false };
        let known = async { tables.wait_for(|it| it.is_known()).await.is_ok() };
        let known = drain.run_until_cancelled(tokio::time::timeout(LIMIT, known)).await;
        matches!(known, Some(Ok(true)))
    }

    fn enter(&self) -> Option<Place<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MOST {
            return Some(Place(&self.waiting));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        None
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_are_bounded_in_number_and_in_time() {
        let (tables, receiver) = watch::channel(Arc::new(Table::default()));
        let (first, drain) = (FirstTable::default(), CancellationToken::new());
        let wait = || first.wait(receiver.clone(), &drain);
        assert!(!wait().await, "without a limit of time");
        assert_eq!(first.waiting(), 0);

        let places: Vec<_> = std::iter::from_fn(|| first.enter()).collect();
        assert_eq!(places.len(), MOST);
        assert!(!tokio::time::timeout(Duration::ZERO, wait()).await.expect("one more waits"));
        drop(places);

        let (waited, ()) = tokio::join!(wait(), async {
            tables.send_replace(Arc::new(Table::new(&[], &Table::default(), &Metrics::new())));
        });
        assert!(waited);
        assert_eq!(first.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_in_a_drain() {
        let (_tables, receiver) = watch::channel(Arc::new(Table::default()));
        let (first, drain) = (FirstTable::default(), CancellationToken::new());
        let (waited, ()) = tokio::join!(first.wait(receiver.clone(), &drain), async { drain.cancel() });
        assert!(!waited);
        assert!(!tokio::time::timeout(Duration::ZERO, first.wait(receiver, &drain)).await.unwrap());
    }
}
