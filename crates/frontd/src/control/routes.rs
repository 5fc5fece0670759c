//! Follows emperord's routing table, and saves it to disk to serve from while emperord is down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use api::routes::routes_service_client::RoutesServiceClient;
use api::routes::{App, Snapshot, WatchRequest, WatchResponse, watch_response};
use daemon::backoff::Backoff;
use prost::Message as _;
use tokio::sync::watch;
use tonic::Status;
use tracing::{debug, warn};

use crate::observe::metrics::Metrics;
use crate::site::table::Table;

/// The routing table as received. Each change builds a new [`Table`] from it.
#[derive(Debug)]
pub(crate) struct Routes {
    emperord: PathBuf,
    file: PathBuf,
    apps: BTreeMap<String, App>,
    tables: watch::Sender<Arc<Table>>,
    metrics: Arc<Metrics>,
}

impl Routes {
    /// Starts with the table that an earlier process saved in `state`, if there is one.
    pub(crate) fn new(emperord: PathBuf, state: &Path, metrics: Arc<Metrics>) -> Self {
        let file = state.join("routes.pb");
        let (tables, _) = watch::channel(Arc::new(Table::default()));
        let mut routes = Self { emperord, file, apps: BTreeMap::new(), tables, metrics };
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

    /// Follows emperord forever, reconnecting when it restarts.
    pub(crate) async fn follow(mut self) {
        let mut backoff = Backoff::new();
        loop {
            match self.watch(&mut backoff).await {
                Ok(()) => debug!("emperord exited: serving from the last routing table"),
                Err(status) => debug!(reason = status.message(), "emperord is away"),
            }
            backoff.wait().await;
        }
    }

    async fn watch(&mut self, backoff: &mut Backoff) -> Result<(), Status> {
        let mut client = RoutesServiceClient::new(daemon::uds::channel(&self.emperord, |it| it));
        let front = format!("frontd-{}", std::process::id());
        let mut updates = client.watch(WatchRequest { front }).await?.into_inner();
        while let Some(update) = updates.message().await? {
            backoff.reset();
            self.apply(update);
        }
        Ok(())
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
