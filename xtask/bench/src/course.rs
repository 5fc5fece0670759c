//! Runs each case on all sides, alternating in several rounds.

mod connections;
mod life;
mod neighbours;
mod sockets;
mod starts;
mod usage;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;

use self::neighbours::Neighbours;
use super::app::Scene;
use super::cases::{Case, Work};
use super::load::echo::Echo;
use super::load::fan_out::FanOut;
use super::load::wrk::{Method, Plan};
use super::load::{Load, float, h2load, handshakes, slow_and_quick};
use super::metric::{Metric, Sample};
use super::outcome::Outcome;
use super::peers::{self, Peers};
use super::program;
use super::progress::print_line;
use super::side::Side;
use super::site::Site;
use super::stack::Stack;

/// Number and duration of the runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// For Imperium and the sides that it is to be faster than by a factor.
    pub(crate) rounds: usize,
    /// For the other sides, in the first of those rounds.
    pub(crate) rounds_of_others: usize,
    /// The duration of a run, in whole seconds.
    pub(crate) lasting: Duration,
}

/// The runner of cases.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    site: &'a Site,
    peers: &'a Peers,
    pace: Pace,
    /// The running stacks, all with this scene. One that failed to start isn't retried until the scene
    /// changes.
    stacks: BTreeMap<Side, Result<Stack, String>>,
    scene: Option<Scene>,
}

impl Pace {
    pub(crate) const FULL: Self = Self { rounds: 4, rounds_of_others: 2, lasting: Duration::from_secs(2) };
    pub(crate) const QUICK: Self = Self { rounds: 2, rounds_of_others: 1, lasting: Duration::from_secs(1) };

    fn rounds_of(self, case: &Case, side: Side) -> usize {
        let closely = side == Side::Imperium
            || side == case.baseline()
            || side == Side::GRANIAN && case.scene.app.is_asgi();
        match case.work {
            // These take a minute.
            Work::IdleSockets(..) => self.rounds.min(self.rounds_of_others),
            _ if closely => self.rounds,
            _ => self.rounds_of_others,
        }
    }
}

/// The load before the first round of a scene: apps load much code with their first requests.
const WARM_UP: Plan =
    Plan { path: "/", connections: 16, protocol: tests::client::Protocol::Plain, method: Method::Get };

impl<'a> Course<'a> {
    pub(crate) fn new(site: &'a Site, peers: &'a Peers, pace: Pace) -> Self {
        Self { site, peers, pace, stacks: BTreeMap::new(), scene: None }
    }

    /// Runs all rounds of a case. The outcome is empty if its client isn't available.
    pub(crate) async fn run(&mut self, case: &Case) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(missing) = peers::client(case) {
            print_line("skipped", &format!("{missing:#}"));
            return outcome;
        }
        let sides: Vec<_> = case.sides.iter().copied().filter(|side| self.peers.have(*side)).collect();
        let pace = self.pace;
        for round in 0..pace.rounds {
            for side in sides.iter().filter(|side| round < pace.rounds_of(case, **side)) {
                outcome.record(*side, self.measure(case, *side).await);
            }
        }
        outcome
    }

    async fn measure(&mut self, case: &Case, side: Side) -> anyhow::Result<Sample> {
        match case.work {
            Work::IdleMemory => return self.idle_memory(side, case.scene).await,
            Work::IdleConnections(protocol) => {
                return connections::run(&self.fresh(side, case.scene).await?, protocol).await;
            }
            Work::IdleSockets(count, protocol) => {
                return sockets::run(&self.fresh(side, case.scene).await?, count, protocol).await;
            }
            _ => {}
        }
        let (site, lasting) = (self.site, self.pace.lasting);
        let stack = self.stack(side, case.scene).await?;
        match &case.work {
            Work::Wrk(plan) => costing(stack, plan.run(stack, lasting, site.path())).await,
            Work::BesideNeighbours(plan) => {
                let _they_compute = Neighbours::start(site)?;
                costing(stack, plan.run(stack, lasting, site.path())).await
            }
            Work::Http2 => costing(stack, h2load::run(stack, lasting, site.path())).await,
            Work::Events => messages(stack, FanOut::events(stack).await?.run(lasting)).await,
            Work::Broadcast => messages(stack, FanOut::broadcast(stack).await?.run(lasting)).await,
            Work::Echo => messages(stack, Echo::connect(stack).await?.run(lasting)).await,
            Work::Handshakes => costing(stack, handshakes::run(stack, lasting)).await,
            Work::SlowAndQuick => costing(stack, slow_and_quick::run(stack, 2 * lasting)).await,
            Work::KilledWorker => life::kill(stack).await,
            Work::Start => starts::run(stack).await,
            Work::Reload(manner) => life::reload(stack, *manner).await,
            Work::IdleMemory | Work::IdleConnections(_) | Work::IdleSockets(..) => {
                unreachable!("measured above, on a stack of its own")
            }
        }
    }

    async fn idle_memory(&mut self, side: Side, scene: Scene) -> anyhow::Result<Sample> {
        let stack = self.fresh(side, scene).await?;
        Ok(Sample::from([(Metric::Memory, memory(&stack)?)]))
    }

    /// Starts a stack that runs alone. With other stacks, shared pages would count less.
    async fn fresh(&mut self, side: Side, scene: Scene) -> anyhow::Result<Stack> {
        self.stacks.clear();
        Stack::start(side, scene, self.site).await
    }

    /// Returns the stack of a side. Starts it and warms it up if necessary.
    async fn stack(&mut self, side: Side, scene: Scene) -> anyhow::Result<&Stack> {
        if self.scene.replace(scene) != Some(scene) {
            self.stacks.clear();
        }
        if !self.stacks.contains_key(&side) {
            let started = self.warm(side, scene).await.map_err(|error| format!("{error:#}"));
            self.stacks.insert(side, started);
        }
        self.stacks[&side].as_ref().map_err(|error| anyhow!("{error}"))
    }

    async fn warm(&self, side: Side, scene: Scene) -> anyhow::Result<Stack> {
        let stack = Stack::start(side, scene, self.site).await?;
        if program::find("wrk").is_some() {
            WARM_UP.run(&stack, Duration::from_secs(1), self.site.path()).await?;
        }
        Ok(stack)
    }
}

/// Runs the load of messages, and adds the CPU time per message.
async fn messages(stack: &Stack, load: impl Future<Output = anyhow::Result<Load>>) -> anyhow::Result<Sample> {
    let mut sample = measured(stack, Metric::Messages, load).await?;
    let cpu = sample.get(&Metric::Cpu).copied().filter(|cpu| *cpu > 0.0);
    sample.extend(cpu.map(|cpu| (Metric::PerCore, 1e6 / cpu)));
    Ok(sample)
}

/// Runs the load of requests, and adds the CPU time per request.
async fn costing(stack: &Stack, load: impl Future<Output = anyhow::Result<Load>>) -> anyhow::Result<Sample> {
    measured(stack, Metric::Throughput, load).await
}

async fn measured(
    stack: &Stack,
    rate: Metric,
    load: impl Future<Output = anyhow::Result<Load>>,
) -> anyhow::Result<Sample> {
    let processes = stack.processes();
    let (front, back) = (usage::cpu(&processes.front)?, usage::cpu(&processes.back)?);
    let load = load.await?;
    let requests = float(load.answered).max(1.0);
    let front = (usage::cpu(&processes.front)? - front) / requests;
    let back = (usage::cpu(&processes.back)? - back) / requests;
    let mut sample = load.sample(rate);
    let costs = [(Metric::FrontCpu, front), (Metric::WorkerCpu, back), (Metric::Cpu, front + back)];
    sample.extend(costs);
    sample.insert(Metric::Memory, memory(stack)?);
    Ok(sample)
}

fn memory(stack: &Stack) -> anyhow::Result<f64> {
    let processes = stack.processes();
    Ok(usage::memory(&processes.front)? + usage::memory(&processes.back)?)
}
