//! The cases of ASGI apps: requests, streams of events, and WebSockets.

use ::tests::client::Protocol;

use super::{CONNECTIONS, Case, Work};
use crate::app::{App, Scene};
use crate::load::fan_out::CLIENTS;
use crate::load::wrk::{Method, Plan};
use crate::metric::Metric;
use crate::side::Side;
use crate::target::{Bound, Of, Target};

const BARE: Scene = Scene::new(App::Asgi, 2);
const FASTAPI: Scene = Scene::new(App::FastApi, 2);
/// All clients are connected to the same process, which has the event or the message.
const ONE_WORKER: Scene = Scene { concurrency: Some(2 * CLIENTS as u32), ..Scene::new(App::Asgi, 1) };
/// Servers don't distribute connections evenly.
const IDLE: Scene = Scene { concurrency: Some(SOCKETS as u32), ..BARE };
/// Caddy would need 20,000 open files in one process.
const WITHOUT_CADDY: &[Side] = &[Side::UVICORN, Side::Imperium, Side::GRANIAN];
const BESIDE_UVICORN: &[Side] = &[Side::UVICORN, Side::Imperium];
const SOCKETS: u16 = 10_000;
const PEERS: [Side; 3] = [Side::UVICORN, Side::GRANIAN, Side::Caddy];

/// The minimum ratios to nginx + uvicorn and nginx + granian.
#[derive(Clone, Copy)]
struct Least {
    uvicorn: f64,
    granian: f64,
}

const EQUAL: Least = Least { uvicorn: 1.0, granian: 1.0 };

pub(super) fn all() -> Vec<Case> {
    let mut cases: Vec<_> = [1, 64, 256].map(bare).into();
    cases.extend([http2(), upload(), echo(), events(), broadcast()]);
    cases.extend([Protocol::Plain, Protocol::Http1].map(idle_sockets));
    cases.extend(CONNECTIONS.map(fastapi));
    cases
}

fn bare(connections: usize) -> Case {
    let least = if connections == 64 { Least { uvicorn: 3.0, granian: 1.6 } } else { EQUAL };
    requests(BARE, connections, least)
}

fn fastapi(connections: usize) -> Case {
    let least = if connections == 64 { Least { uvicorn: 1.6, granian: 1.15 } } else { EQUAL };
    requests(FASTAPI, connections, least)
}

fn requests(scene: Scene, connections: usize, least: Least) -> Case {
    let plural = if connections == 1 { "" } else { "s" };
    let name = format!("{}-{connections}", scene.app.name());
    let title = format!("{}, {connections} connection{plural}", scene.app.title());
    let plan = Plan { path: "/", connections, protocol: Protocol::Plain, method: Method::Get };
    case(&name, &title, scene, Work::Wrk(plan), targets(Metric::Throughput, least))
}

fn http2() -> Case {
    let title = "bare ASGI, HTTP/2, 16 × 16 streams";
    case("asgi-http2", title, BARE, Work::Http2, targets(Metric::Throughput, EQUAL))
}

fn upload() -> Case {
    let method = Method::Post(100 << 10);
    let plan = Plan { path: "/length", connections: 64, protocol: Protocol::Plain, method };
    let title = "bare ASGI, POST of 100 KiB, 64 connections";
    case("asgi-upload", title, BARE, Work::Wrk(plan), targets(Metric::Throughput, EQUAL))
}

fn events() -> Case {
    let title = format!("server-sent events, each to {CLIENTS} clients of a worker");
    case("asgi-events", &title, ONE_WORKER, Work::Events, targets(Metric::Messages, EQUAL))
}

fn echo() -> Case {
    let mut targets = targets(Metric::Messages, EQUAL);
    targets.push(Target::ratio(Metric::PerCore, Bound::AtLeast(1.5), Side::GRANIAN));
    case("websocket-echo", "WebSocket echo, 64 connections", BARE, Work::Echo, targets)
}

fn broadcast() -> Case {
    let title = format!("WebSocket broadcast, each message to {CLIENTS} clients of a worker");
    case("websocket-broadcast", &title, ONE_WORKER, Work::Broadcast, targets(Metric::Messages, EQUAL))
}

fn idle_sockets(protocol: Protocol) -> Case {
    let figure = |metric, most| Target { metric, bound: Bound::AtMost(most), of: Of::Figure };
    let wake_ups = [Metric::WakeUps, Metric::FrontWakeUps].map(|metric| figure(metric, 5.0));
    let memory = figure(Metric::ConnectionMemory, 10.0 * 1024.0);
    let (name, over, sides) = match protocol {
        Protocol::Plain => ("websocket-idle", "", WITHOUT_CADDY),
        _ => ("websocket-idle-tls", " over TLS", BESIDE_UVICORN),
    };
    let title = format!("{SOCKETS} idle WebSockets{over}: memory, CPU time and wake-ups");
    let targets = [memory].into_iter().chain(wake_ups).collect();
    let case = case(name, &title, IDLE, Work::IdleSockets(SOCKETS, protocol), targets);
    Case { sides, headline: Metric::ConnectionMemory, ..case }
}

fn case(name: &str, title: &str, scene: Scene, work: Work, targets: Vec<Target>) -> Case {
    let headline = targets.first().map_or(Metric::Throughput, |target| target.metric);
    Case {
        name: name.to_owned(),
        title: title.to_owned(),
        scene,
        work,
        headline,
        sides: &Side::ASGI,
        targets,
    }
}

/// These ratios of the rate, a p99 that isn't higher, and no failures.
fn targets(rate: Metric, least: Least) -> Vec<Target> {
    let times = |side| match side {
        Side::UVICORN => least.uvicorn,
        Side::GRANIAN => least.granian,
        _ => 1.0,
    };
    let rates = PEERS.map(|side| Target::ratio(rate, Bound::AtLeast(times(side)), side));
    let delays = PEERS.map(|side| Target::ratio(Metric::P99, Bound::AtMost(1.0), side));
    rates.into_iter().chain(delays).chain([Target::NONE_FAILED]).collect()
}
