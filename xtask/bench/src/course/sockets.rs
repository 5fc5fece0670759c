//! What idle WebSockets cost in memory, CPU time and wake-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use futures_util::future::try_join_all;
use rustix::process::{Resource, getrlimit};
use tests::client::{Client, Protocol};
use tests::websocket::WebSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

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
    let mut sockets = Sockets::default();
    sockets.open(&client, FIRST).await?;
    let (before, usual) = sockets.idle(stack, WINDOW_BEFORE).await?;
    sockets.open(&client, count).await?;
    let (pings, begun) = (sockets.pings(), Instant::now());
    let (after, with_sockets) = sockets.idle(stack, WINDOW).await?;
    let pings = float(sockets.pings() - pings) / begun.elapsed().as_secs_f64();
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

/// Open WebSockets. They respond to pings also while others are opened, which may take a while.
#[derive(Default)]
struct Sockets {
    pings: Vec<Arc<AtomicU64>>,
    listening: JoinSet<anyhow::Error>,
}

impl Sockets {
    async fn open(&mut self, client: &Client, more: u16) -> anyhow::Result<()> {
        for _ in 0..more / GROUP {
            let group = try_join_all((0..GROUP).map(|_| WebSocket::open(client, PATH))).await;
            for socket in group.with_context(|| format!("open a WebSocket after {}", self.pings.len()))? {
                self.pings.push(socket.pings());
                self.listening.spawn(listen(socket));
            }
        }
        Ok(())
    }

    fn pings(&self) -> u64 {
        self.pings.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }

    /// Returns the usage after the window, and how much it grew per second.
    async fn idle(&mut self, stack: &Stack, window: Duration) -> anyhow::Result<(Usage, Usage)> {
        let (begun, before) = (Instant::now(), Usage::of(stack)?);
        if let Ok(Some(ended)) = timeout(window, self.listening.join_next()).await {
            return Err(ended.context("an idle WebSocket")?);
        }
        growth(stack, &before, begun)
    }
}

/// Returns why it ended, since nothing should come.
async fn listen(mut socket: WebSocket) -> anyhow::Error {
    match socket.receive().await {
        Ok(message) => anyhow!("{message:?} on an idle WebSocket"),
        Err(error) => error,
    }
}

fn growth(stack: &Stack, before: &Usage, begun: Instant) -> anyhow::Result<(Usage, Usage)> {
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
