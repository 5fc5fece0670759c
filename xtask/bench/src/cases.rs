//! The benchmark's cases, and their targets.

mod asgi;

use ::tests::client::Protocol;
use anyhow::ensure;

use super::app::{App, Scene};
use super::load::wrk::{Method, Plan};
use super::metric::Metric;
use super::side::Side;
use super::stack::Reload;
use super::target::{Bound, Of, Target};

/// A benchmark case.
#[derive(Debug)]
pub(crate) struct Case {
    /// The name for `--only`, and in JSON.
    pub(crate) name: String,
    /// The title in reports.
    pub(crate) title: String,
    pub(crate) scene: Scene,
    pub(crate) work: Work,
    /// The main metric.
    pub(crate) headline: Metric,
    pub(crate) sides: &'static [Side],
    pub(crate) targets: Vec<Target>,
}

/// The kind of load.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Wrk(Plan),
    /// While other processes keep all CPUs busy.
    BesideNeighbours(Plan),
    Http2,
    /// Many clients receive each event of a stream.
    Events,
    /// WebSocket messages are returned.
    Echo,
    /// Many clients receive each WebSocket message.
    Broadcast,
    /// That many WebSockets, over HTTP/1.1 with or without TLS.
    IdleSockets(u16, Protocol),
    Handshakes,
    SlowAndQuick,
    IdleMemory,
    IdleConnections(Protocol),
    KilledWorker,
    Start,
    Reload(Reload),
}

const BARE: Scene = Scene::new(App::Bare, 2);
/// All servers of WSGI apps.
const SERVERS: &[Side] = &Side::WSGI;
/// All competitors use nginx: for cases about nginx itself or about workers' lifecycles, one is enough.
const FRONTS: &[Side] = &[Side::UWSGI, Side::Imperium];
const CONNECTIONS: [usize; 4] = [1, 4, 64, 256];

impl Case {
    /// What it is compared with above all.
    pub(crate) fn baseline(&self) -> Side {
        if self.scene.app.is_asgi() { Side::UVICORN } else { Side::UWSGI }
    }
}

/// Returns the cases whose names contain one of `only`, or all if it is empty.
pub(crate) fn chosen(only: &[String]) -> anyhow::Result<Vec<Case>> {
    let mut cases = all();
    let names: Vec<_> = cases.iter().map(|it| it.name.clone()).collect();
    cases.retain(|case| only.is_empty() || only.iter().any(|name| case.name.contains(name.as_str())));
    ensure!(!cases.is_empty(), "no case is called {}; there are {}", only.join(", "), names.join(", "));
    Ok(cases)
}

/// Cases with the same scene are adjacent, so that its stacks are started once.
fn all() -> Vec<Case> {
    let mut cases = vec![memory()];
    cases.extend([Protocol::Plain, Protocol::Http1, Protocol::Http2].map(idle_connections));
    cases.extend(CONNECTIONS.map(bare));
    cases.extend([beside_neighbours(App::Bare), tls(), http2(), post()]);
    for (file, connections) in [("1k", 64), ("100k", 64), ("10m", 8)] {
        cases.extend([Protocol::Plain, Protocol::Http1].map(|it| static_file(file, connections, it)));
    }
    cases.extend([handshakes(), killed(), start(App::Bare)]);
    cases.extend([Reload::AllAtOnce, Reload::OneByOne].map(reload));
    cases.extend(CONNECTIONS.map(|connections| framework(App::Flask, connections)));
    cases.extend([beside_neighbours(App::Flask), start(App::Flask)]);
    cases.extend(CONNECTIONS.map(|connections| framework(App::Django, connections)));
    cases.extend([start(App::Django), slow_and_quick()]);
    cases.extend(asgi::all());
    cases
}

fn bare(connections: usize) -> Case {
    let uwsgi = match connections {
        ..=4 => at_most(Metric::P50, 1.0),
        5.. => at_least(2.0),
    };
    let mut targets = vec![uwsgi, Target::NONE_FAILED];
    targets.extend((connections == 64).then(|| at_most(Metric::Cpu, 0.5)));
    targets.extend(above_others());
    app_case(App::Bare, connections, targets)
}

fn framework(app: App, connections: usize) -> Case {
    let least = if connections == 64 { 1.2 } else { 1.0 };
    let mut targets = vec![at_least(least), Target::NONE_FAILED];
    targets.extend(above_others());
    app_case(app, connections, targets)
}

fn app_case(app: App, connections: usize, targets: Vec<Target>) -> Case {
    let plural = if connections == 1 { "" } else { "s" };
    Case {
        name: format!("{}-{connections}", app.name()),
        title: format!("{}, {connections} connection{plural}", app.title()),
        scene: Scene::new(app, 2),
        work: Work::Wrk(Plan { path: "/", connections, protocol: Protocol::Plain, method: Method::Get }),
        headline: if app == App::Bare && connections <= 4 { Metric::P50 } else { Metric::Throughput },
        sides: SERVERS,
        targets,
    }
}

fn beside_neighbours(app: App) -> Case {
    let plan = Plan { path: "/", connections: 16, protocol: Protocol::Plain, method: Method::Get };
    Case {
        name: format!("{}-neighbours", app.name()),
        title: format!("{}, 16 connections, beside loops on all processors", app.title()),
        scene: Scene::new(app, 2),
        work: Work::BesideNeighbours(plan),
        headline: Metric::Throughput,
        sides: FRONTS,
        targets: vec![at_least(1.0), Target::NONE_FAILED],
    }
}

fn tls() -> Case {
    let plan = Plan { path: "/", connections: 64, protocol: Protocol::Http1, method: Method::Get };
    let mut case = on_bare("bare-tls", "bare WSGI, TLS, HTTP/1.1, 64 connections", Work::Wrk(plan));
    case.targets = [at_least(2.0), Target::NONE_FAILED].into_iter().chain(above_others()).collect();
    case
}

fn http2() -> Case {
    let mut case = on_bare("bare-http2", "bare WSGI, HTTP/2, 16 × 16 streams", Work::Http2);
    case.targets = [at_least(2.0), Target::NONE_FAILED].into_iter().chain(above_others()).collect();
    case
}

fn post() -> Case {
    let plan =
        Plan { path: "/length", connections: 64, protocol: Protocol::Plain, method: Method::Post(10 << 10) };
    let mut case = on_bare("bare-post", "bare WSGI, POST of 10 KiB, 64 connections", Work::Wrk(plan));
    case.targets = [Target::NONE_FAILED].into_iter().chain(above_others()).collect();
    case
}

fn static_file(file: &'static str, connections: usize, protocol: Protocol) -> Case {
    let (path, size) = match file {
        "1k" => ("/static/1k.bin", "1 KiB"),
        "100k" => ("/static/100k.bin", "100 KiB"),
        _ => ("/static/10m.bin", "10 MiB"),
    };
    let (suffix, over) = if protocol == Protocol::Plain { ("", "plain") } else { ("-tls", "TLS") };
    let least = match (file, protocol) {
        ("1k", _) => 1.5,
        (_, Protocol::Plain) => 1.0,
        _ => 1.1,
    };
    let work = Work::Wrk(Plan { path, connections, protocol, method: Method::Get });
    let title = format!("static {size}, {over}, {connections} connections");
    let mut case = on_bare(&format!("static-{file}{suffix}"), &title, work);
    case.sides = FRONTS;
    case.targets = vec![at_least(least), Target::NONE_FAILED];
    case
}

fn handshakes() -> Case {
    let mut case = on_bare("handshakes", "TLS connections, a full handshake each", Work::Handshakes);
    case.sides = FRONTS;
    case.targets = vec![at_least(1.0), Target::NONE_FAILED];
    case
}

fn killed() -> Case {
    let mut case = on_bare("kill", "kill -9 of a worker, until all serve again", Work::KilledWorker);
    case.sides = FRONTS;
    case.headline = Metric::Recovery;
    case
}

fn reload(manner: Reload) -> Case {
    let (name, title) = match manner {
        Reload::AllAtOnce => ("reload", "reload under load, 16 connections"),
        Reload::OneByOne => ("reload-chain", "reload under load, uWSGI's by chain"),
    };
    let mut case = on_bare(name, title, Work::Reload(manner));
    case.sides = FRONTS;
    case.headline = Metric::Longest;
    let longest = Target { metric: Metric::Longest, bound: Bound::AtMost(50_000.0), of: Of::Figure };
    case.targets = vec![longest, Target::NONE_FAILED];
    case
}

fn memory() -> Case {
    let mut case = on_bare("memory", "idle memory, whole stack, 2 bare workers", Work::IdleMemory);
    case.headline = Metric::Memory;
    case.targets = vec![at_most(Metric::Memory, 1.0)];
    case
}

fn idle_connections(protocol: Protocol) -> Case {
    let (name, over, kib) = match protocol {
        Protocol::Plain => ("idle-http", "HTTP/1.1", 32.0),
        Protocol::Http1 => ("idle-https", "HTTP/1.1 over TLS", 40.0),
        Protocol::Http2 => ("idle-http2", "HTTP/2 over TLS", 48.0),
    };
    let title = format!("memory of an idle connection, {over}");
    let mut case = on_bare(name, &title, Work::IdleConnections(protocol));
    case.sides = FRONTS;
    case.headline = Metric::ConnectionMemory;
    let bound = Bound::AtMost(kib * 1024.0);
    case.targets = vec![Target { metric: Metric::ConnectionMemory, bound, of: Of::Figure }];
    case
}

/// The others don't tell when a worker is ready. Of an app with a framework, most of the time is the import.
fn start(app: App) -> Case {
    let bound = Bound::AtMost(250_000.0);
    let target = Target { metric: Metric::Start, bound, of: Of::Figure };
    Case {
        name: format!("start-{}", app.name()),
        title: format!("{}: from the start of a worker until it serves", app.title()),
        scene: Scene::new(app, 2),
        work: Work::Start,
        headline: Metric::Start,
        sides: &[Side::Imperium],
        targets: if app == App::Bare { vec![target] } else { Vec::new() },
    }
}

fn slow_and_quick() -> Case {
    let title = "1 in 10 requests sleeps 100 ms, 4 workers: the quick ones";
    let mut case = on_bare("mixed", title, Work::SlowAndQuick);
    case.scene.workers = 4;
    case.sides = FRONTS;
    case.headline = Metric::P99;
    case.targets = vec![at_most(Metric::P99, 1.0), Target::NONE_FAILED];
    case
}

fn on_bare(name: &str, title: &str, work: Work) -> Case {
    Case {
        name: name.to_owned(),
        title: title.to_owned(),
        scene: BARE,
        work,
        headline: Metric::Throughput,
        sides: SERVERS,
        targets: Vec::new(),
    }
}

fn at_least(times: f64) -> Target {
    Target::ratio(Metric::Throughput, Bound::AtLeast(times), Side::UWSGI)
}

fn at_most(metric: Metric, times: f64) -> Target {
    Target::ratio(metric, Bound::AtMost(times), Side::UWSGI)
}

fn above_others() -> [Target; 2] {
    [Side::GUNICORN, Side::GRANIAN].map(|side| Target::ratio(Metric::Throughput, Bound::AtLeast(1.0), side))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn case_names_are_unique() {
        let cases = all();
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn cases_of_a_scene_are_adjacent() {
        let cases = all();
        let scenes: Vec<_> = cases.chunk_by(|a, b| a.scene == b.scene).map(|it| it[0].scene).collect();
        let twice = |(place, scene)| scenes[..place].contains(scene);
        assert!(!scenes.iter().enumerate().any(twice), "{scenes:?}");
    }

    #[test]
    fn cases_are_selected_by_a_part_of_their_name() {
        let check = |only: &[&str], expected: &[&str]| {
            let only: Vec<_> = only.iter().map(|&it| it.to_owned()).collect();
            let chosen = chosen(&only).unwrap();
            let names: Vec<_> = chosen.iter().map(|case| case.name.as_str()).collect();
            assert_eq!(names, expected);
        };
        check(&["mixed"], &["mixed"]);
        check(&["static-1k"], &["static-1k", "static-1k-tls"]);
        check(&["flask-64", "django-64"], &["flask-64", "django-64"]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = chosen(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("no case is called nothing; there are memory, idle-http, "), "{error}");
    }
}
