//! Killed and replaced workers: how long until all serve again, and what clients notice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tests::load::{Kind, Ledger, Load};
use tests::process::{self, Process};
use tests::wait::until;

use crate::load::float;
use crate::metric::{Metric, Sample};
use crate::stack::{Reload, Stack};

const CONNECTIONS: usize = 16;
/// The number of requests before and after the reload.
const AROUND: u64 = 500;

/// Kills a worker, and sends requests until all workers serve again.
pub(crate) async fn kill(stack: &Stack) -> anyhow::Result<Sample> {
    let before = stack.all_answer(&BTreeSet::new()).await?;
    let victim = *before.first().context("a worker")?;
    let begun = Instant::now();
    process::signal(victim, Signal::KILL)?;
    let (mut seen, mut failed) = (BTreeSet::new(), 0);
    let recovered = until("every worker serves again", async || {
        for answer in stack.pids().await? {
            match answer {
                Ok(pid) => seen.extend((pid != victim).then_some(pid)),
                Err(_) => failed += 1,
            }
        }
        Ok((seen.len() >= stack.scene.workers as usize).then(|| begun.elapsed()))
    });
    let took = recovered.await?;
    Ok(Sample::from([(Metric::Recovery, microseconds(took)), (Metric::Failed, float(failed))]))
}

/// Replaces all workers under load.
pub(crate) async fn reload(stack: &Stack, manner: Reload) -> anyhow::Result<Sample> {
    let old = stack.all_answer(&BTreeSet::new()).await?;
    let processes: Vec<_> = old.iter().filter_map(|pid| Process::of(*pid)).collect();
    let load = Load::start(&stack.client()?, CONNECTIONS, Kind::Gets);
    load.flows(AROUND).await?;
    let begun = Instant::now();
    stack.reload(manner).await?;
    until("the old workers have ended", async || {
        Ok((!processes.iter().any(Process::is_running)).then_some(()))
    })
    .await?;
    stack.all_answer(&old).await?;
    let took = begun.elapsed();
    load.flows(AROUND).await?;
    let ledger = load.finish().await?;
    ensure!(ledger.right > 0, "no request was answered right: {ledger:#?}");
    Ok(Sample::from([
        (Metric::Recovery, microseconds(took)),
        (Metric::Longest, microseconds(ledger.longest)),
        (Metric::Failed, float(failed(&ledger))),
    ]))
}

fn failed(ledger: &Ledger) -> u64 {
    ledger.sent - ledger.right
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
