//! Follows the routing table of its source, and saves it to disk to serve from while the source is down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use api::routes::{App, Snapshot, WatchResponse, watch_response};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
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
        let (latest, unsaved) = watch::channel(Vec::new());
        let saving = save_each(self.file.clone(), unsaved);
        let following = async {
            loop {
                let update = self.source.next().await;
                if self.apply(update) {
                    latest.send_replace(self.snapshot().encode_to_vec());
                }
            }
        };
        tokio::join!(following, saving);
    }

    /// Returns whether the update says anything.
    fn apply(&mut self, WatchResponse { version, update }: WatchResponse) -> bool {
        match update {
            Some(watch_response::Update::Snapshot(snapshot)) => self.replace(snapshot),
            Some(watch_response::Update::Change(change)) => {
                change.removed.iter().for_each(|it| drop(self.apps.remove(it)));
                self.apps.extend(change.changed.into_iter().map(|it| (it.name.clone(), it)));
            }
            None => return false,
        }
        debug!(version, apps = self.apps.len(), "routing table changed");
        self.publish();
        true
    }

    fn replace(&mut self, snapshot: Snapshot) {
        self.apps = snapshot.apps.into_iter().map(|it| (it.name.clone(), it)).collect();
    }

    fn publish(&self) {
        let apps: Vec<_> = self.apps.values().cloned().collect();
        self.tables.send_modify(|table| *table = Arc::new(Table::new(&apps, table, &self.metrics)));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { apps: self.apps.values().cloned().collect() }
    }
}

/// Saves the latest table after each change, on another thread: a disk that hangs delays neither the next table nor the
/// probes.
async fn save_each(file: PathBuf, mut unsaved: watch::Receiver<Vec<u8>>) {
    while unsaved.changed().await.is_ok() {
        let (table, to) = (unsaved.borrow_and_update().clone(), file.clone());
        let saved = spawn_blocking(move || save(&to, &table)).await;
        if let Err(error) = saved.map_err(io::Error::other).flatten() {
            warn!(file = %file.display(), %error, "cannot save the routing table: after a restart, frontd will wait for emperord");
        }
    }
}

/// Saves a table. It is written to another file and renamed, so that a crash leaves the old or the new table.
fn save(file: &Path, table: &[u8]) -> io::Result<()> {
    let fresh = fresh(file);
    fs::write(&fresh, table)?;
    fs::rename(&fresh, file)
}

/// The name contains the pid, since another frontd may use the same folder.
fn fresh(file: &Path) -> PathBuf {
    file.with_extension(format!("new-{}", std::process::id()))
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
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

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
        let following = TaskTracker::new().spawn(routes.follow());
        drop(tables.wait_for(is_changed).await.unwrap());
        let file = folder.path().join("routes.pb");
        let names = |it: Snapshot| it.apps.into_iter().map(|it| it.name).collect::<Vec<_>>();
        while read(&file).unwrap().map(names).is_none_or(|it| it != ["shop", "wiki"]) {
            tokio::task::yield_now().await;
        }
        following.abort();
        let (_updates, receiver) = mpsc::unbounded_channel();
        let again = Routes::new(Fed(receiver), folder.path(), Metrics::new());
        assert_eq!(domains(&again.tables()), ["shop.example", "wiki.example"]);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_delays_no_table() {
        let folder = tempfile::tempdir().unwrap();
        let (updates, receiver) = mpsc::unbounded_channel();
        let routes = Routes::new(Fed(receiver), folder.path(), Metrics::new());
        let mut tables = routes.tables();
        // Opening a FIFO for writing blocks until somebody reads.
        let fifo = fresh(&folder.path().join("routes.pb"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let following = TaskTracker::new().spawn(routes.follow());
        for name in ["blog", "shop"] {
            let update = Some(watch_response::Update::Snapshot(Snapshot { apps: vec![app(name)] }));
            updates.send(WatchResponse { version: 1, update }).unwrap();
            let is_there = |it: &Arc<Table>| it.domains() == [format!("{name}.example")];
            drop(tables.wait_for(is_there).await.unwrap());
        }
        // The runtime waits for the thread.
        fs::read(&fifo).unwrap();
        following.abort();
    }
}
