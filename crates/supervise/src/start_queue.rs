//! Decides which app starts the next process, so that many starts don't delay each other until they time out.

use std::collections::BTreeMap;

use crate::supervisor::Demand;

/// Schedules the starts of all apps.
///
/// The number of concurrent starts is limited to what keeps the processors busy: the time limit of a start
/// counts from when it really begins. Among waiting apps, the order is: apps whose last start didn't fail;
/// then apps without a worker; then apps whose last start was the longest ago. An app that was passed over
/// [`MAX_PASSED`] times goes before all that have waited less, so each app gets its turn. Starts of code that
/// isn't known to start never take the last slot: an app that hangs during import doesn't prevent others from
/// replacing a worker.
#[derive(Debug)]
pub struct StartQueue<K> {
    limit: usize,
    turn: u64,
    last: BTreeMap<K, u64>,
    /// The turn at which each waiting app started to wait.
    waits_since: BTreeMap<K, u64>,
}

/// How many turns others may have first while an app waits.
const MAX_PASSED: u64 = 8;

/// The number of processes that are starting, over all apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Running {
    /// Of generations that are known to start.
    pub proven: usize,
    /// Of all others.
    pub unproven: usize,
}

impl<K: Ord + Clone> StartQueue<K> {
    /// Creates a queue with at most `limit` concurrent starts, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), turn: 0, last: BTreeMap::new(), waits_since: BTreeMap::new() }
    }

    /// Returns the app that may start a process now.
    pub fn next(&mut self, running: Running, waiting: impl IntoIterator<Item = (K, Demand)>) -> Option<K> {
        if running.proven + running.unproven >= self.limit {
            return None;
        }
        let may_be_unproven = running.unproven < (self.limit - 1).max(1);
        let waiting: BTreeMap<K, Demand> = waiting.into_iter().collect();
        self.waits_since.retain(|app, _| waiting.contains_key(app));
        for app in waiting.keys() {
            self.waits_since.entry(app.clone()).or_insert(self.turn);
        }
        let may_start = waiting.into_iter().filter(|(_, it)| it.is_proven || may_be_unproven);
        let (app, _) = may_start.min_by_key(|(app, it)| self.rank(app, it))?;
        self.turn += 1;
        self.last.insert(app.clone(), self.turn);
        self.waits_since.remove(&app);
        Some(app)
    }

    /// The lowest rank goes first.
    fn rank(&self, app: &K, demand: &Demand) -> impl Ord + use<K> {
        let since = self.waits_since.get(app).copied().unwrap_or(self.turn);
        let overdue_since = if self.turn - since >= MAX_PASSED { since } else { u64::MAX };
        (overdue_since, demand.has_failed, demand.is_serving, self.last.get(app).copied())
    }

    /// Forgets an app that was removed.
    pub fn forget(&mut self, app: &K) {
        self.last.remove(app);
        self.waits_since.remove(app);
    }
}
