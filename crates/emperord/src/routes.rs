//! The routing table: which app answers for which host and path, and which workers it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{VassalName, WorkerName};
use tokio::sync::broadcast;
use vassal::Vassal;

use crate::state::Serving;

/// Changes that a watcher may lag behind before it gets a new snapshot.
const BACKLOG: usize = 256;

/// One app in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What its file says.
    pub vassal: Arc<Vassal>,
    /// Whether it has workers, or will.
    pub state: RouteState,
    /// Those that take requests.
    pub workers: Vec<(WorkerName, Serving)>,
    /// Why its newest version cannot start, for its developer; None in production.
    pub failure: Option<Arc<str>>,
}

/// Whether an app has workers, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteState {
    /// None is ready yet: requests wait.
    Starting,
    /// At least one is.
    Serving,
    /// None will be until the app is changed.
    Failed,
}

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table's version from here on.
    pub version: u64,
    /// The app that is new or other than before, or the one that is gone.
    pub what: Changed,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// New, or in place of the former.
    Route(Arc<Route>),
    /// Not in the table any more.
    Removed(VassalName),
}

/// The whole table, and all that changes after it.
#[derive(Debug)]
pub struct Watch {
    /// Of the snapshot.
    pub version: u64,
    /// The table at that version.
    pub routes: Vec<Arc<Route>>,
    /// What comes after it. One that lags has to watch anew.
    pub changes: broadcast::Receiver<Change>,
}

/// The table itself.
#[derive(Debug)]
pub struct Table {
    version: u64,
    routes: BTreeMap<VassalName, Arc<Route>>,
    changes: broadcast::Sender<Change>,
}

impl Table {
    /// Without any app.
    #[must_use]
    pub fn new() -> Self {
        Self { version: 0, routes: BTreeMap::new(), changes: broadcast::Sender::new(BACKLOG) }
    }

    /// Puts an app in place. One that is there already, and the same, is no change.
    pub fn put(&mut self, route: Route) {
        let name = &route.vassal.name;
        if self.routes.get(name).is_some_and(|it| **it == route) {
            return;
        }
        let route = Arc::new(route);
        self.routes.insert(route.vassal.name.clone(), Arc::clone(&route));
        self.tell(Changed::Route(route));
    }

    /// Takes an app out, if it is there.
    pub fn remove(&mut self, name: &VassalName) {
        if self.routes.remove(name).is_some() {
            self.tell(Changed::Removed(name.clone()));
        }
    }

    /// The table as it is, and what becomes of it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            version: self.version,
            routes: self.routes.values().cloned().collect(),
            changes: self.changes.subscribe(),
        }
    }

    fn tell(&mut self, what: Changed) {
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
    fn a_watcher_gets_what_is_there_then_each_change() {
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
    fn a_watcher_that_lags_is_told() {
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
