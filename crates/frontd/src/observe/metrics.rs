//! The metrics, in the OpenMetrics text format.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::accept::AcceptErrors;
use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// All metrics of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    responses: Family<Labels, Counter>,
    /// Responses without an app: bad requests, unknown hosts.
    pub(crate) unrouted: Counter,
    refused: Family<Labels, Counter>,
    socket_messages: Family<Labels, Counter>,
    /// Requests that were sent to another worker after the first one was lost or handed them back.
    pub(crate) retries: Counter,
    /// HTTP/2 connections that were closed because the client reset too many streams or sent too many frames.
    pub(crate) floods: Counter,
    /// HTTP/2 responses that were reset because the client read nothing.
    pub(crate) stalled: Counter,
    /// Failed accepts. Copied to `accept_errors` when metrics are rendered.
    accepting: Arc<AcceptErrors>,
    accept_errors: Counter,
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// Connections that were closed at once because of a limit.
    pub(crate) connections_refused: Counter,
    /// Copied from the log when metrics are rendered.
    dropped_lines: Counter,
    pools: Pools,
}

/// Gauges that are filled from the pools when metrics are rendered.
#[derive(Debug, Default)]
struct Pools {
    workers: Family<Labels, Gauge>,
    capacity: Family<Labels, Gauge>,
    blocked: Family<Labels, Gauge>,
    in_flight: Family<Labels, Gauge>,
    waiting: Family<Labels, Gauge>,
    sockets: Family<Labels, Gauge>,
}

/// The state of one app's pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolStats {
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    /// Workers whose event loop is blocked.
    pub(crate) blocked: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    /// WebSockets, and handshakes in flight.
    pub(crate) sockets: usize,
}

/// The counters of one app, so that a request needs no lookup.
#[derive(Debug, Clone)]
pub(crate) struct AppMetrics {
    /// By status class, 1xx to 5xx.
    responses: [Counter; 5],
}

/// The counters of an app's WebSockets.
#[derive(Debug, Clone)]
pub(crate) struct SocketMetrics {
    /// Messages from clients.
    pub(crate) received: Counter,
    /// Messages to clients.
    pub(crate) sent: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("imperium")),
            responses: Family::default(),
            unrouted: Counter::default(),
            refused: Family::default(),
            socket_messages: Family::default(),
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
        registry.register(
            "responses_unrouted",
            "Responses to requests that match no app",
            self.unrouted.clone(),
        );
        registry.register(
            "refused",
            "Requests that frontd refused or answered itself, by reason",
            self.refused.clone(),
        );
        registry.register(
            "retries",
            "Requests that were sent to another worker after the first one died or handed them back",
            self.retries.clone(),
        );
        registry.register(
            "http2_floods",
            "HTTP/2 connections that were closed because the client reset too many streams",
            self.floods.clone(),
        );
        registry.register(
            "responses_stalled",
            "HTTP/2 responses that were reset because the client read nothing for limits.send_timeout",
            self.stalled.clone(),
        );
        registry.register(
            "accept_errors",
            "Failed attempts to accept a connection, for lack of file descriptors or memory",
            self.accept_errors.clone(),
        );
        registry.register("connections", "Open client connections", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections that were refused because of limits.connections, or because their address had too many",
            self.connections_refused.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of frontd's log that were dropped because nothing read it",
            self.dropped_lines.clone(),
        );
        registry.register("workers", "Workers that accept requests", self.pools.workers.clone());
        registry.register(
            "capacity",
            "Requests that the workers can handle at the same time",
            self.pools.capacity.clone(),
        );
        registry.register(
            "workers_blocked",
            "Workers whose event loop is blocked, so that they get no requests",
            self.pools.blocked.clone(),
        );
        registry.register("in_flight", "Requests that workers are handling", self.pools.in_flight.clone());
        registry.register("queue", "Requests that are waiting for a worker", self.pools.waiting.clone());
        registry.register(
            "websockets",
            "Open WebSockets, and handshakes that workers are handling",
            self.pools.sockets.clone(),
        );
        registry.register(
            "websocket_messages",
            "WebSocket messages: `in` from clients, `out` to them",
            self.socket_messages.clone(),
        );
    }

    /// Counts a refused request.
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

    /// The counters of an app's WebSockets.
    pub(crate) fn sockets(&self, app: &str) -> SocketMetrics {
        let counter = |direction: &str| {
            let labels = vec![("app", app.to_owned()), ("direction", direction.to_owned())];
            self.socket_messages.get_or_create(&labels).clone()
        };
        SocketMetrics { received: counter("in"), sent: counter("out") }
    }

    /// The counter of failed accepts.
    pub(crate) fn accepting(&self) -> Arc<AcceptErrors> {
        Arc::clone(&self.accepting)
    }

    /// Renders all metrics. `pools` is the current state of each app's pool, by the app's name.
    pub(crate) fn render<'a>(&self, pools: impl IntoIterator<Item = (&'a str, PoolStats)>) -> String {
        self.pools.read(pools);
        self.accept_errors.inc_by(self.accepting.failed().saturating_sub(self.accept_errors.get()));
        self.dropped_lines.inner().store(daemon::output::dropped(), Ordering::Relaxed);
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock()).expect("writing to a string can't fail");
        out
    }
}

impl Pools {
    fn read<'a>(&self, pools: impl IntoIterator<Item = (&'a str, PoolStats)>) {
        for gauge in
            [&self.workers, &self.capacity, &self.blocked, &self.in_flight, &self.waiting, &self.sockets]
        {
            gauge.clear();
        }
        for (app, stats) in pools {
            let labels = vec![("app", app.to_owned())];
            let set = |gauge: &Family<Labels, Gauge>, value: usize| {
                gauge.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.workers, stats.workers);
            set(&self.capacity, stats.capacity);
            set(&self.blocked, stats.blocked);
            set(&self.in_flight, stats.in_flight);
            set(&self.waiting, stats.waiting);
            set(&self.sockets, stats.sockets);
        }
    }
}

impl AppMetrics {
    /// Counts a response.
    pub(crate) fn responded(&self, status: StatusCode) {
        // Statuses of 600 and more, which no class covers, count as 5xx.
        let class = usize::from(status.as_u16() / 100).min(5);
        if let Some(counter) = self.responses.get(class.wrapping_sub(1)) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::*;

    /// One metric, parsed from a scrape.
    #[derive(Default)]
    struct Scraped {
        kind: String,
        help: String,
        name: String,
        labels: Vec<String>,
    }

    #[test]
    fn the_reference_is_up_to_date() {
        let metrics = Metrics::new();
        metrics.app("blog").responded(StatusCode::OK);
        metrics.refused("full");
        let pools = &metrics.pools;
        let _counters = metrics.sockets("blog");
        for gauge in [
            &pools.workers,
            &pools.capacity,
            &pools.blocked,
            &pools.in_flight,
            &pools.waiting,
            &pools.sockets,
        ] {
            let _sample = gauge.get_or_create(&vec![("app", "blog".to_owned())]);
        }
        let mut text = String::new();
        text::encode(&mut text, &metrics.registry.lock()).unwrap();
        reference::Page::of("docs/reference/metrics.md").has("metrics", &table(&text));
    }

    fn table(text: &str) -> String {
        let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
        for Scraped { kind, help, name, labels } in scrape(text).into_values() {
            let labels: Vec<_> = labels.iter().map(|it| format!("`{it}`")).collect();
            let help = help.trim_end_matches('.');
            let _ = writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
        table
    }

    fn scrape(text: &str) -> BTreeMap<String, Scraped> {
        let mut all = BTreeMap::<String, Scraped>::new();
        for line in text.lines() {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => all.entry(name.to_owned()).or_default().help = help.to_owned(),
                ["#", "TYPE", name, kind] => all.entry(name.to_owned()).or_default().kind = kind.to_owned(),
                ["#", ..] => {}
                _ => {
                    let (sample, labels) = line.split_once(['{', ' ']).unwrap();
                    let it = all.get_mut(sample.trim_end_matches("_total")).unwrap();
                    it.name = sample.to_owned();
                    let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
                    it.labels =
                        labels.split(',').filter_map(|it| Some(it.split_once('=')?.0.to_owned())).collect();
                }
            }
        }
        all
    }
}
