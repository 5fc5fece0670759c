//! A shard without a thread of its own, for tests.

use std::path::Path;
use std::sync::Arc;

use api::routes;
use config::Layout;
use config::frontd::FrontdConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shard, Shared};
use crate::body::spool::SpoolFolder;
use crate::connection::tls::Certificates;
use crate::limits::clients::Clients;
use crate::listen::pulse::Pulse;
use crate::mode::Mode;
use crate::observe::metrics::Metrics;
use crate::site::first_table::FirstTable;
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
        first_table: FirstTable::default(),
        drain: CancellationToken::new(),
        spool: SpoolFolder::create(&folder.join("spool"), config.limits.spool_per_app, config.shards)
            .unwrap(),
        clients: Clients::new(&config.limits, 1000),
        connections: 1000.into(),
        live: watch::Sender::new(config.clone().into()),
        pulse: Pulse::new(1),
        config,
    }
}

/// The first shard.
pub(crate) fn shard(shared: &Arc<Shared>) -> Arc<Shard> {
    Arc::new(Shard::new(0, Arc::clone(shared)))
}
