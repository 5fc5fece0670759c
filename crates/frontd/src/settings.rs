//! The current configuration.

use std::sync::Arc;

use config::frontd::{AccessLog, FrontdConfig};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// The configuration of one shard: a copy per shard, so that reading it causes no contention between them.
#[derive(Debug)]
pub(crate) struct Settings(RwLock<Arc<FrontdConfig>>);

impl Settings {
    pub(crate) fn new(config: FrontdConfig) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    /// The current configuration. Don't hold the guard for long.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Arc<FrontdConfig>> {
        self.0.read()
    }

    /// Whether requests are logged.
    pub(crate) fn access_log(&self) -> bool {
        self.read().access_log == AccessLog::Stderr
    }

    /// Applies each change until `live` has no sender.
    pub(crate) async fn follow(&self, mut live: watch::Receiver<Arc<FrontdConfig>>) {
        while live.changed().await.is_ok() {
            let config = Arc::clone(&live.borrow_and_update());
            *self.0.write() = config;
        }
    }
}
