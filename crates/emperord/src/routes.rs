//! The routing table: which app serves which host and path, and its workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{VassalName, WorkerName};
use tokio::sync::broadcast;
use vassal::Vassal;

use crate::state::Serving;

/// The number of changes that a watcher may lag behind before it gets a new snapshot.
const BACKLOG: usize = 256;

/// An app's entry in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its configuration.
    pub vassal: Arc<Vassal>,
    /// Whether it has workers.
    pub state: RouteState,
    /// The workers that accept requests.
    pub workers: Vec<(WorkerName, Serving)>,
    /// Why its newest version can't start, for its developer. None in production.
    pub failure: Option<ShownFailure>,
}

/// Why an app can't start, for its developer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownFailure {
    /// The cause in one line, followed by the traceback.
    pub text: Arc<str>,
    /// What happens next, as a sentence without a full stop.
    pub next: &'static str,
}

/// Whether an app has workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteState {
    /// None is ready yet: requests wait.
    Starting,
    /// At least one is ready.
    Serving,
    /// None will be ready until the app is changed.
    Failed,
}

/// A change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version of the table after the change.
    pub version: u64,
    /// What has changed.
    pub what: Changed,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// An app was added or replaced.
    Route(Arc<Route>),
    /// An app was removed.
    Removed(VassalName),
}

/// A snapshot of the table, and subsequent changes.
#[derive(Debug)]
pub struct Watch {
    /// The version of the snapshot.
    pub version: u64,
    /// The table at that version.
    pub routes: Vec<Arc<Route>>,
    /// Subsequent changes. A watcher that lags has to start over.
    pub changes: broadcast::Receiver<Change>,
}

/// The routing table.
#[derive(Debug)]
pub struct Table {
    version: u64,
    routes: BTreeMap<VassalName, Arc<Route>>,
    changes: broadcast::Sender<Change>,
}

impl Table {
    /// Creates an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { version: 0, routes: BTreeMap::new(), changes: broadcast::Sender::new(BACKLOG) }
    }

    /// Adds or replaces an app. If it hasn't changed, nothing happens.
    pub fn put(&mut self, route: Route) {
        let name = &route.vassal.name;
        if self.routes.get(name).is_some_and(|it| **it == route) {
            return;
        }
        let route = Arc::new(route);
        self.routes.insert(route.vassal.name.clone(), Arc::clone(&route));
        self.publish(Changed::Route(route));
    }

    /// Removes an app, if it is in the table.
    pub fn remove(&mut self, name: &VassalName) {
        if self.routes.remove(name).is_some() {
            self.publish(Changed::Removed(name.clone()));
        }
    }

    /// Returns a snapshot, and a subscription to subsequent changes.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            version: self.version,
            routes: self.routes.values().cloned().collect(),
            changes: self.changes.subscribe(),
        }
    }

    fn publish(&mut self, what: Changed) {
        self.version += 1;
        let _nobody_watches = self.changes.send(Change { version: self.version, what });
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn route(name: &str, state: RouteState) -> Route {
        let text = "domains = [\"a.example\"]\napp = \"a:a\"\ndirectory = \"/\"";
        let vassal = Vassal::parse(format!("/v/{name}.toml").as_ref(), text).unwrap();
        Route { vassal: Arc::new(vassal), state, workers: Vec::new(), failure: None }
    }

    #[test]
    fn a_watcher_gets_a_snapshot_then_each_change() {
        let mut table = Table::new();
        table.put(route("blog", RouteState::Starting));
        let mut watch = table.watch();
        assert_eq!((watch.version, watch.routes.len()), (1, 1));

        table.put(route("blog", RouteState::Starting));
        assert_eq!(watch.changes.try_recv(), Err(TryRecvError::Empty));
        table.put(route("blog", RouteState::Serving));
        let route = Arc::new(route("blog", RouteState::Serving));
        assert_eq!(watch.changes.try_recv(), Ok(Change { version: 2, what: Changed::Route(route) }));

        let blog = VassalName::parse("blog").unwrap();
        table.remove(&blog);
        table.remove(&blog);
        assert_eq!(watch.changes.try_recv(), Ok(Change { version: 3, what: Changed::Removed(blog) }));
        assert_eq!(watch.changes.try_recv(), Err(TryRecvError::Empty));
        assert!(table.watch().routes.is_empty());
    }

    #[test]
    fn a_lagging_watcher_is_notified() {
        let mut table = Table::new();
        let mut watch = table.watch();
        for _ in 0..BACKLOG {
            table.put(route("blog", RouteState::Serving));
            table.put(route("blog", RouteState::Starting));
        }
        assert!(matches!(watch.changes.try_recv(), Err(TryRecvError::Lagged(_))));
        assert_eq!(table.watch().version, 2 * BACKLOG as u64);
    }
}
