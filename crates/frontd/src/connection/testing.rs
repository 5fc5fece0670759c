//! A server without a shard's thread, for tests.

use std::path::Path;
use std::sync::Arc;

use api::routes;
use config::Layout;
use config::frontd::FrontdConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tls::Certificates;
use super::{Server, Shared};
use crate::body::spool::SpoolFolder;
use crate::limits::clients::Clients;
use crate::mode::Mode;
use crate::observe::metrics::Metrics;
use crate::site::table::Table;

/// The shared state with these apps, and with its files in `folder`.
pub(crate) fn shared(folder: &Path, apps: &[routes::App]) -> Shared {
    let config = FrontdConfig::new(&Layout::under(folder).unwrap());
    let metrics = Metrics::new();
    let table = match apps {
        [] => Table::default(),
        apps => Table::new(apps, &Table::default(), &metrics),
    };
    Shared {
        mode: Mode::Production,
        metrics,
        certificates: Arc::new(Certificates::new(&config.tls).unwrap()),
        tables: watch::channel(Arc::new(table)).1,
        first_table: Arc::default(),
        drain: CancellationToken::new(),
        spool: SpoolFolder::create(&folder.join("spool"), config.limits.spool_per_app, config.shards)
            .unwrap(),
        clients: Clients::new(&config.limits, 1000),
        live: watch::Sender::new(config.clone().into()),
        config,
    }
}

/// The server of the first shard.
pub(crate) fn server(shared: &Shared) -> Arc<Server> {
    Arc::new(Server::new(0, shared))
}
