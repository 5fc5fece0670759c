//! The process group, terminal and scheduling policy of workers.

use anyhow::{Context as _, ensure};
use tests::place::Place;
use tests::process::Process;
use tests::stack::Stack;
use tests::vassal::Vassal;
use tests::wait::until;

/// SCHED_BATCH, sched(7).
const BATCH: u32 = 3;

#[tokio::test]
async fn a_worker_has_its_own_group_no_terminal_and_batch_scheduling() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let forked = Vassal::wsgi(&place).named("forked").key("preload = true");
    let stack = Stack::in_a_terminal(place.clone(), [Vassal::wsgi(&place).named("started"), forked])?;
    stack.all_ready().await?;
    let process = |pid| Process::of(pid).context("it has ended");
    let [emperord, frontd] = [stack.daemon("emperord").await?, stack.daemon("frontd").await?].map(process);
    let (emperord, frontd) = (emperord?, frontd?);
    ensure!(emperord.terminal != 0, "the test has no terminal: {emperord:?}");
    ensure!(frontd.policy == emperord.policy, "{frontd:?}, {emperord:?}");
    for app in ["started", "forked"] {
        for pid in stack.ready(app, 1).await? {
            // A worker becomes ready before the thread that runs the app sets its policy.
            let scheduled = async || Ok(Process::of(pid).filter(|it| it.policy == BATCH));
            let worker = until("it is batch work", scheduled).await.context(app)?;
            ensure!(worker.group == pid && worker.terminal == 0, "{app}: {worker:?}");
            // A separate session would compete with the whole stack for CPU time: sched(7), autogroup.
            ensure!(worker.session == emperord.session, "{app}: {worker:?}, {emperord:?}");
        }
    }
    stack.stop_with_clients().await
}
