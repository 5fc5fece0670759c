//! The front server: terminates TLS, speaks HTTP, serves static files, queues requests and selects workers.

mod action;
mod backend;
mod body;
mod connection;
mod control;
mod disk;
mod finish;
mod limits;
mod listen;
mod mode;
mod observe;
mod service;
mod settings;
mod site;
mod visit;
mod yield_before_park;

use std::fs;
use std::sync::Arc;

use anyhow::Context as _;
use config::Diagnostics;
use config::frontd::FrontdConfig;
use daemon::notify::{Notify, State};
use daemon::signals::{SignalEvent, Signals};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::body::spool::SpoolFolder;
use crate::connection::Shared;
use crate::connection::tls::Certificates;
use crate::control::emperord::Emperord;
use crate::control::routes::Routes;
use crate::control::{admin, reload};
use crate::limits::clients::Clients;
use crate::limits::descriptors::Descriptors;
use crate::listen::pulse::Pulse;
use crate::listen::sockets::{self, BindError, Inherited, Sockets};
use crate::listen::{Front, shard};
pub use crate::mode::Mode;
use crate::observe::metrics::Metrics;
use crate::site::table::Table;
use crate::visit::client::Transport;

/// Runs the front server until a signal asks it to stop, then drains.
///
/// `read` loads the configuration, at the start and again for each reload. `mode` sets how much detail the
/// built-in error pages show.
///
/// # Errors
///
/// Returns an error, without having served anything, if a folder, certificate, socket or thread that it needs
/// isn't available.
pub async fn run(
    read: impl Fn() -> Result<FrontdConfig, Diagnostics> + Send + Sync + 'static,
    mode: Mode,
) -> anyhow::Result<()> {
    let config = read()?;
    let state = &config.state;
    fs::create_dir_all(state).with_context(|| format!("make folder {}", state.display()))?;
    let spool = SpoolFolder::create(&config.spool, config.limits.spool_per_app, config.shards)?;
    let inherited = Inherited::take()?;
    let serves_tls = inherited.serves_tls(&config);
    let mut tls = config.tls.clone();
    // A local authority is made only for who uses it.
    tls.development.take_if(|_| !serves_tls);
    let certificates = Arc::new(Certificates::new(&tls).context("read certificates")?);
    if serves_tls && config.tls.is_empty() {
        warn!(
            "no certificates: every TLS handshake will fail until `tls.certificates` in frontd.toml names a folder of them"
        );
    }
    let Sockets { bound, admin } = sockets::bind(&config, inherited)?;
    let mut signals = Signals::new().context("receive signals")?;

    let metrics = Metrics::new();
    let routes = Routes::new(Emperord::new(config.emperord.clone()), &config.state, Arc::clone(&metrics));
    let Descriptors { connections, files } = Descriptors::new(config.limits.connections, config.shards);
    let pulse = Pulse::new(config.shards.get());
    let shared = Shared {
        clients: Clients::new(&config.limits, files),
        live: watch::Sender::new(config.clone().into()),
        mode,
        config,
        metrics,
        certificates,
        tables: routes.tables(),
        first_table: Arc::default(),
        drain: CancellationToken::new(),
        spool,
    };
    let front = Arc::new(Front { shared, connections: connections.into(), pulse });
    let shared = &front.shared;
    certify(&shared.certificates, &shared.tables.borrow());
    for socket in &bound {
        let tls = socket.transport() == Transport::Tls;
        info!(address = %socket.address()?, tls, shards = shared.config.shards, "listening");
    }
    let shards = shard::start(&front, &bound).context("start the shards")?;
    // During a drain, the shards close the sockets, so no other handle may stay open.
    drop(bound);
    let tasks = TaskTracker::new();
    tasks.spawn(routes.follow());
    tasks.spawn(admin::serve(admin, Arc::clone(&front)));
    tasks.spawn(follow_domains(Arc::clone(&shared.certificates), shared.tables.clone()));

    let manager = Notify::from_env();
    manager.report(State::Ready);
    let watched = Arc::clone(&front);
    tasks.spawn(manager.clone().keep_alive_while(move || watched.pulse.hung().is_none()));
    let watched = Arc::clone(&front);
    tasks.spawn(async move { watched.pulse.watch().await });
    let (read, turn) = (Arc::new(read), Arc::new(Mutex::new(())));
    while signals.next().await == SignalEvent::Reload {
        let (front, read, manager) = (Arc::clone(&front), Arc::clone(&read), manager.clone());
        let turn = Arc::clone(&turn);
        // A disk that hangs delays neither the probes nor a drain.
        tasks.spawn(async move {
            let _one_at_a_time = turn.lock().await;
            manager.report(State::Reloading);
            let drain = front.shared.drain.clone();
            let _panicked = spawn_blocking(move || reload::reload(&front, read())).await;
            if !drain.is_cancelled() {
                manager.report(State::Ready);
            }
        });
    }
    info!("draining");
    shared.drain.cancel();
    // `imperium up` starts the next frontd when it receives this.
    manager.report(State::Stopping);
    spawn_blocking(move || shards.into_iter().for_each(|it| drop(it.join())))
        .await
        .context("wait for the shards")?;
    info!("stopped");
    Ok(())
}

/// Whether `run` failed because it couldn't bind a client port: usually because another server uses it.
#[must_use]
pub fn is_bind_error(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(BindError::Bind { .. }))
}

/// Generates a certificate for each new domain in the routing table that has none.
async fn follow_domains(certificates: Arc<Certificates>, mut tables: watch::Receiver<Arc<Table>>) {
    while tables.changed().await.is_ok() {
        let (table, certificates) = (Arc::clone(&tables.borrow_and_update()), Arc::clone(&certificates));
        let _panicked = spawn_blocking(move || certify(&certificates, &table)).await;
    }
}

fn certify(certificates: &Certificates, table: &Table) {
    if let Err(error) = certificates.set_domains(&table.domains()) {
        warn!(error = &error as &dyn std::error::Error, "domain has no certificate");
    }
}
