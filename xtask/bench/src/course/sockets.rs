//! What idle WebSockets cost in memory, CPU time and wake-ups.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::{Either, select, try_join_all};
use rustix::process::{Resource, getrlimit};
use tests::client::{Client, Protocol};
use tests::websocket::WebSocket;
use tokio::time::{Instant, sleep};

use super::usage;
use crate::load::float;
use crate::metric::{Metric, Sample};
use crate::site::HOST;
use crate::stack::Stack;

/// Opened before anything is counted: with them come the pages that the first connections touch once.
const FIRST: u16 = 100;
/// Sockets are opened in groups of this size, since servers have short queues of new connections.
const GROUP: u16 = 50;
/// As long as the interval of pings, so that the window contains one ping of each socket.
const WINDOW: Duration = Duration::from_secs(20);
/// Without sockets, a shorter one shows enough.
const WINDOW_BEFORE: Duration = Duration::from_secs(5);
/// The files that the client has open besides the sockets.
const OTHER_FILES: u64 = 200;
const PATH: &str = "/ws/idle";

/// What the processes of a stack have used so far.
struct Usage {
    front_memory: f64,
    memory: f64,
    cpu: f64,
    front_wake_ups: f64,
    wake_ups: f64,
}

/// Opens that many WebSockets on a stack that nobody else uses, and only answers pings. The kernel's own memory for
/// sockets isn't counted.
pub(crate) async fn run(stack: &Stack, count: u16, protocol: Protocol) -> anyhow::Result<Sample> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = u64::from(count + FIRST) + OTHER_FILES;
    ensure!(limit >= needed, "{needed} open files are needed, and {limit} are allowed (ulimit -n)");
    let address = if protocol == Protocol::Plain { stack.http } else { stack.https };
    let client = Client::new(&stack.certificate, HOST, address, protocol)?;
    let mut sockets = Vec::new();
    open(&client, &mut sockets, FIRST).await?;
    let (before, usual) = idle(stack, &mut sockets, WINDOW_BEFORE).await?;
    open(&client, &mut sockets, count).await?;
    let (pings, begun) = (pings(&sockets), Instant::now());
    let (after, with_sockets) = idle(stack, &mut sockets, WINDOW).await?;
    let pings = float(self::pings(&sockets) - pings) / begun.elapsed().as_secs_f64();
    let front_wake_ups = with_sockets.front_wake_ups - usual.front_wake_ups - 2.0 * pings;
    let each = |all: f64| all / f64::from(count);
    Ok(Sample::from([
        (Metric::ConnectionMemory, each(after.front_memory - before.front_memory)),
        (Metric::StackMemory, each(after.memory - before.memory)),
        (Metric::IdleCpu, with_sockets.cpu),
        (Metric::WakeUps, (with_sockets.wake_ups - usual.wake_ups).max(0.0)),
        (Metric::FrontWakeUps, front_wake_ups.max(0.0)),
        (Metric::Pings, pings),
    ]))
}

async fn open(client: &Client, sockets: &mut Vec<WebSocket>, more: u16) -> anyhow::Result<()> {
    for _ in 0..more / GROUP {
        let group = try_join_all((0..GROUP).map(|_| WebSocket::open(client, PATH))).await;
        sockets.extend(group.with_context(|| format!("open a WebSocket after {}", sockets.len()))?);
    }
    Ok(())
}

fn pings(sockets: &[WebSocket]) -> u64 {
    sockets.iter().map(WebSocket::pings).sum()
}

/// Returns the usage after the window, and how much it grew per second.
async fn idle(stack: &Stack, sockets: &mut [WebSocket], window: Duration) -> anyhow::Result<(Usage, Usage)> {
    let (begun, before) = (Instant::now(), Usage::of(stack)?);
    let silent = async |socket: &mut WebSocket| -> anyhow::Result<()> {
        let message = socket.receive().await?;
        bail!("{message:?} on an idle WebSocket")
    };
    let listening = try_join_all(sockets.iter_mut().map(silent));
    if let Either::Right((Err(error), _)) = select(Box::pin(sleep(window)), listening).await {
        return Err(error);
    }
    let (after, seconds) = (Usage::of(stack)?, begun.elapsed().as_secs_f64());
    let growth = Usage {
        front_memory: (after.front_memory - before.front_memory) / seconds,
        memory: (after.memory - before.memory) / seconds,
        cpu: (after.cpu - before.cpu) / seconds,
        front_wake_ups: (after.front_wake_ups - before.front_wake_ups) / seconds,
        wake_ups: (after.wake_ups - before.wake_ups) / seconds,
    };
    Ok((after, growth))
}

impl Usage {
    fn of(stack: &Stack) -> anyhow::Result<Self> {
        let processes = stack.processes();
        let front_memory = usage::memory(&processes.front)?;
        Ok(Self {
            front_memory,
            memory: front_memory + usage::memory(&processes.back)?,
            cpu: usage::cpu(&processes.front)? + usage::cpu(&processes.back)?,
            front_wake_ups: usage::wake_ups(&processes.front),
            wake_ups: usage::wake_ups(&processes.back),
        })
    }
}
