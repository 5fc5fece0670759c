//! Follows the routing table of its source, and saves it to disk to serve from while the source is down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use api::routes::{App, Snapshot, WatchResponse, watch_response};
use prost::Message as _;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::observe::metrics::Metrics;
use crate::site::table::Table;

/// Where the routing table comes from.
pub(crate) trait RouteSource {
    /// Waits for the next update, however long that takes: the whole table to begin with, and again whenever
    /// changes may have been missed.
    fn next(&mut self) -> impl Future<Output = WatchResponse> + Send;
}

/// The routing table as received. Each change builds a new [`Table`] from it.
#[derive(Debug)]
pub(crate) struct Routes<S> {
    source: S,
    file: PathBuf,
    apps: BTreeMap<String, App>,
    tables: watch::Sender<Arc<Table>>,
    metrics: Arc<Metrics>,
}

impl<S: RouteSource> Routes<S> {
    /// Starts with the table that an earlier process saved in `state`, if there is one.
    pub(crate) fn new(source: S, state: &Path, metrics: Arc<Metrics>) -> Self {
        let file = state.join("routes.pb");
        let (tables, _) = watch::channel(Arc::new(Table::default()));
        let mut routes = Self { source, file, apps: BTreeMap::new(), tables, metrics };
        match read(&routes.file) {
            Ok(Some(snapshot)) => {
                debug!(
                    apps = snapshot.apps.len(),
                    "serving from the last routing table until emperord answers"
                );
                routes.replace(snapshot);
                routes.publish();
            }
            Ok(None) => {}
            Err(error) => warn!(file = %routes.file.display(), %error, "cannot read the last routing table"),
        }
        routes
    }

    /// Subscribes to the current table and its changes.
    pub(crate) fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.tables.subscribe()
    }

    /// Follows the source forever.
    pub(crate) async fn follow(mut self) {
        loop {
            let update = self.source.next().await;
            self.apply(update);
        }
    }

    fn apply(&mut self, WatchResponse { version, update }: WatchResponse) {
        match update {
            Some(watch_response::Update::Snapshot(snapshot)) => self.replace(snapshot),
            Some(watch_response::Update::Change(change)) => {
                change.removed.iter().for_each(|it| drop(self.apps.remove(it)));
                self.apps.extend(change.changed.into_iter().map(|it| (it.name.clone(), it)));
            }
            None => return,
        }
        debug!(version, apps = self.apps.len(), "routing table changed");
        self.publish();
        if let Err(error) = self.save() {
            warn!(file = %self.file.display(), %error, "cannot save the routing table: after a restart, frontd will wait for emperord");
        }
    }

    fn replace(&mut self, snapshot: Snapshot) {
        self.apps = snapshot.apps.into_iter().map(|it| (it.name.clone(), it)).collect();
    }

    fn publish(&self) {
        let apps: Vec<_> = self.apps.values().cloned().collect();
        self.tables.send_modify(|table| *table = Arc::new(Table::new(&apps, table, &self.metrics)));
    }

    /// Saves the table. It is written to another file and renamed, so that a crash leaves the old or the new
    /// table. The name contains the pid, since another frontd may use the same folder.
    fn save(&self) -> io::Result<()> {
        let snapshot = Snapshot { apps: self.apps.values().cloned().collect() };
        let fresh = self.file.with_extension(format!("new-{}", std::process::id()));
        fs::write(&fresh, snapshot.encode_to_vec())?;
        fs::rename(&fresh, &self.file)
    }
}

fn read(file: &Path) -> io::Result<Option<Snapshot>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(Snapshot::decode(bytes.as_slice())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use api::routes::Change;
    use tokio::sync::mpsc;

    use super::*;

    /// A source that a test feeds.
    struct Fed(mpsc::UnboundedReceiver<WatchResponse>);

    impl RouteSource for Fed {
        async fn next(&mut self) -> WatchResponse {
            match self.0.recv().await {
                Some(update) => update,
                None => std::future::pending().await,
            }
        }
    }

    fn app(name: &str) -> App {
        App { name: name.to_owned(), domains: vec![format!("{name}.example")], ..App::default() }
    }

    fn domains(tables: &watch::Receiver<Arc<Table>>) -> Vec<String> {
        tables.borrow().domains()
    }

    #[tokio::test]
    async fn a_table_follows_its_source_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (updates, receiver) = mpsc::unbounded_channel();
        let routes = Routes::new(Fed(receiver), folder.path(), Metrics::new());
        let mut tables = routes.tables();
        assert!(!tables.borrow().is_known());
        let send = |update| updates.send(WatchResponse { version: 1, update: Some(update) }).unwrap();
        send(watch_response::Update::Snapshot(Snapshot { apps: vec![app("blog"), app("shop")] }));
        send(watch_response::Update::Change(Change {
            changed: vec![app("wiki")],
            removed: vec!["blog".into()],
        }));
        let is_changed = |it: &Arc<Table>| it.domains() == ["shop.example", "wiki.example"];
        tokio::select! {
            () = routes.follow() => {}
            known = tables.wait_for(is_changed) => drop(known.unwrap()),
        }
        let (_updates, receiver) = mpsc::unbounded_channel();
        let again = Routes::new(Fed(receiver), folder.path(), Metrics::new());
        assert_eq!(domains(&again.tables()), ["shop.example", "wiki.example"]);
    }
}
