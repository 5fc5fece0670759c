//! What can be measured, in the OpenMetrics text format.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::accept::Tally;
use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::table::Table;

type Labels = Vec<(&'static str, String)>;

/// All metrics of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    responses: Family<Labels, Counter>,
    /// Answers that no app had a part in: bad requests, unknown hosts.
    pub(crate) unrouted: Counter,
    refused: Family<Labels, Counter>,
    /// Requests that were given to another worker after the first was lost or handed them back.
    pub(crate) retries: Counter,
    /// Connections of HTTP/2 that were closed because of what their clients reset or sent too often.
    pub(crate) floods: Counter,
    /// Responses over HTTP/2 that ended because their clients took nothing of them.
    pub(crate) stalled: Counter,
    /// What could not be accepted; read when somebody asks.
    accepting: Arc<Tally>,
    accept_errors: Counter,
    /// Connections of clients that are open.
    pub(crate) connections: Gauge,
    /// Connections that were closed at once, for want of places.
    pub(crate) connections_refused: Counter,
    /// Read off the log when somebody asks.
    dropped_lines: Counter,
    pools: Pools,
}

/// Read off the pools when somebody asks.
#[derive(Debug, Default)]
struct Pools {
    workers: Family<Labels, Gauge>,
    capacity: Family<Labels, Gauge>,
    in_flight: Family<Labels, Gauge>,
    waiting: Family<Labels, Gauge>,
}

/// The counters of one app, looked up once.
#[derive(Debug, Clone)]
pub(crate) struct AppMetrics {
    /// By class of the status code, from 1xx to 5xx.
    responses: [Counter; 5],
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("imperium")),
            responses: Family::default(),
            unrouted: Counter::default(),
            refused: Family::default(),
            retries: Counter::default(),
            floods: Counter::default(),
            stalled: Counter::default(),
            accepting: Arc::default(),
            accept_errors: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            dropped_lines: Counter::default(),
            pools: Pools::default(),
        };
        metrics.register(&mut metrics.registry.lock());
        Arc::new(metrics)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "responses",
            "Responses, by app and class of the status code",
            self.responses.clone(),
        );
        registry.register("responses_unrouted", "Responses to requests of no app", self.unrouted.clone());
        registry.register(
            "refused",
            "Requests that frontd itself refused, or answered in an app's stead, by reason",
            self.refused.clone(),
        );
        registry.register("retries", "Requests that were given to another worker", self.retries.clone());
        registry.register(
            "http2_floods",
            "Connections of HTTP/2 closed because of what their clients reset or sent too often",
            self.floods.clone(),
        );
        registry.register(
            "responses_stalled",
            "HTTP/2 responses that were reset because their clients took nothing of them",
            self.stalled.clone(),
        );
        registry.register(
            "accept_errors",
            "Times that a connection could not be accepted for want of descriptors or memory",
            self.accept_errors.clone(),
        );
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed at once: limits.connections was reached, or nearly so by their address",
            self.connections_refused.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of frontd's log that were dropped, as nobody read it",
            self.dropped_lines.clone(),
        );
        registry.register("workers", "Workers that take requests", self.pools.workers.clone());
        registry.register(
            "capacity",
            "Requests that the workers can work on at once",
            self.pools.capacity.clone(),
        );
        registry.register("in_flight", "Requests that workers are working on", self.pools.in_flight.clone());
        registry.register("queue", "Requests that wait for a worker", self.pools.waiting.clone());
    }

    /// Counts a request that no app has answered.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// The counters of an app.
    pub(crate) fn app(&self, name: &str) -> AppMetrics {
        let class = |it: usize| vec![("app", name.to_owned()), ("class", format!("{it}xx"))];
        AppMetrics {
            responses: std::array::from_fn(|at| self.responses.get_or_create(&class(at + 1)).clone()),
        }
    }

    /// Counts what cannot be accepted.
    pub(crate) fn accepting(&self) -> Arc<Tally> {
        Arc::clone(&self.accepting)
    }

    /// The text, with the pools as they are now.
    pub(crate) fn render(&self, table: &Table) -> String {
        self.pools.read(table);
        self.accept_errors.inc_by(self.accepting.failed().saturating_sub(self.accept_errors.get()));
        self.dropped_lines.inner().store(daemon::output::dropped(), Ordering::Relaxed);
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock()).expect("a string takes all that is written to it");
        out
    }
}

impl Pools {
    fn read(&self, table: &Table) {
        for gauge in [&self.workers, &self.capacity, &self.in_flight, &self.waiting] {
            gauge.clear();
        }
        for app in table.apps() {
            let labels = vec![("app", app.name().to_owned())];
            let census = app.pool().census();
            let set = |gauge: &Family<Labels, Gauge>, value: usize| {
                gauge.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.workers, census.workers);
            set(&self.capacity, census.capacity);
            set(&self.in_flight, census.in_flight);
            set(&self.waiting, census.waiting);
        }
    }
}

impl AppMetrics {
    /// Counts a response.
    pub(crate) fn responded(&self, status: StatusCode) {
        // What no class is for is an error of the app's.
        let class = usize::from(status.as_u16() / 100).min(5);
        if let Some(counter) = self.responses.get(class.wrapping_sub(1)) {
            counter.inc();
        }
    }
}
