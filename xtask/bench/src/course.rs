//! Runs each case on all sides, alternating in several rounds.

mod connections;
mod life;
mod neighbours;
mod starts;
mod usage;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;

use self::neighbours::Neighbours;
use super::app::Scene;
use super::cases::{Case, Work};
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
    /// For Imperium and nginx + uWSGI.
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
    /// The running stacks, all with the same scene. One that failed to start isn't retried until the scene
    /// changes.
    stacks: BTreeMap<Side, Result<Stack, String>>,
}

impl Pace {
    pub(crate) const FULL: Self = Self { rounds: 4, rounds_of_others: 2, lasting: Duration::from_secs(2) };
    pub(crate) const QUICK: Self = Self { rounds: 2, rounds_of_others: 1, lasting: Duration::from_secs(1) };

    fn rounds_of(self, side: Side) -> usize {
        if side == Side::Imperium || side == Side::UWSGI { self.rounds } else { self.rounds_of_others }
    }
}

/// The load before the first round of a scene: apps load much code with their first requests.
const WARM_UP: Plan =
    Plan { path: "/", connections: 16, protocol: tests::client::Protocol::Plain, method: Method::Get };

impl<'a> Course<'a> {
    pub(crate) fn new(site: &'a Site, peers: &'a Peers, pace: Pace) -> Self {
        Self { site, peers, pace, stacks: BTreeMap::new() }
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
            for side in sides.iter().filter(|side| round < pace.rounds_of(**side)) {
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
            Work::Handshakes => costing(stack, handshakes::run(stack, lasting)).await,
            Work::SlowAndQuick => costing(stack, slow_and_quick::run(stack, 2 * lasting)).await,
            Work::KilledWorker => life::kill(stack).await,
            Work::Start => starts::run(stack).await,
            Work::Reload(manner) => life::reload(stack, *manner).await,
            Work::IdleMemory | Work::IdleConnections(_) => {
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
        self.stacks.retain(|_, stack| stack.as_ref().is_ok_and(|it| it.scene == scene));
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

/// Runs the load, and adds the CPU time per request.
async fn costing(stack: &Stack, load: impl Future<Output = anyhow::Result<Load>>) -> anyhow::Result<Sample> {
    let processes = stack.processes();
    let (front, back) = (usage::cpu(&processes.front)?, usage::cpu(&processes.back)?);
    let load = load.await?;
    let requests = float(load.answered).max(1.0);
    let front = (usage::cpu(&processes.front)? - front) / requests;
    let back = (usage::cpu(&processes.back)? - back) / requests;
    let mut sample = load.sample();
    let costs = [(Metric::FrontCpu, front), (Metric::WorkerCpu, back), (Metric::Cpu, front + back)];
    sample.extend(costs);
    sample.insert(Metric::Memory, memory(stack)?);
    Ok(sample)
}

fn memory(stack: &Stack) -> anyhow::Result<f64> {
    let processes = stack.processes();
    Ok(usage::memory(&processes.front)? + usage::memory(&processes.back)?)
}
