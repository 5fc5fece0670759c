//! What idle WebSockets cost in memory, CPU time and wake-ups.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::{Either, select, try_join_all};
use rustix::process::{Resource, getrlimit};
use tokio::time::{Instant, sleep};

use super::usage;
use crate::load::socket::Socket;
use crate::metric::{Metric, Sample};
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
    wake_ups: f64,
}

/// Opens that many WebSockets on a stack that nobody else uses, and only answers pings. The kernel's own memory for
/// sockets isn't counted.
pub(crate) async fn run(stack: &Stack, count: u16) -> anyhow::Result<Sample> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = u64::from(count + FIRST) + OTHER_FILES;
    ensure!(limit >= needed, "{needed} open files are needed, and {limit} are allowed (ulimit -n)");
    let mut sockets = Vec::new();
    open(stack, &mut sockets, FIRST).await?;
    let (before, usual) = idle(stack, &mut sockets, WINDOW_BEFORE).await?;
    open(stack, &mut sockets, count).await?;
    let (after, with_sockets) = idle(stack, &mut sockets, WINDOW).await?;
    let each = |all: f64| all / f64::from(count);
    Ok(Sample::from([
        (Metric::ConnectionMemory, each(after.front_memory - before.front_memory)),
        (Metric::StackMemory, each(after.memory - before.memory)),
        (Metric::IdleCpu, with_sockets.cpu),
        (Metric::WakeUps, (with_sockets.wake_ups - usual.wake_ups).max(0.0)),
    ]))
}

async fn open(stack: &Stack, sockets: &mut Vec<Socket>, more: u16) -> anyhow::Result<()> {
    for _ in 0..more / GROUP {
        let group = (0..GROUP).map(|_| Socket::connect(stack.http, PATH));
        let group = try_join_all(group).await;
        sockets.extend(group.with_context(|| format!("open a WebSocket after {}", sockets.len()))?);
    }
    Ok(())
}

/// Returns the usage after the window, and how much it grew per second.
async fn idle(stack: &Stack, sockets: &mut [Socket], window: Duration) -> anyhow::Result<(Usage, Usage)> {
    let (begun, before) = (Instant::now(), Usage::of(stack)?);
    let silent = async |socket: &mut Socket| -> anyhow::Result<()> {
        let message = socket.receive().await?;
        bail!("a message on an idle WebSocket: {}", String::from_utf8_lossy(message))
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
            wake_ups: usage::wake_ups(&processes.back),
        })
    }
}
