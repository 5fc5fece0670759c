//! Changes of the number of workers, and replacements, without failing requests.

use std::collections::BTreeSet;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::TIMEOUT;

const CONNECTIONS: usize = 6;

#[tokio::test]
async fn workers_in_the_file_edited_from_three_to_five_to_two() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?);
    stack::with([vassal.clone().workers(3)], async |stack| {
        let load = load(stack)?;
        let three = stack.ready("wsgi", 3).await?;
        load.flows(50).await?;

        stack.put(&vassal.clone().workers(5))?;
        let five = stack.ready("wsgi", 5).await?;
        ensure!(three.iter().all(|pid| five.contains(pid)), "{three:?} were restarted: {five:?}");
        load.flows(50).await?;

        stack.put(&vassal.workers(2))?;
        let two = stack.ready("wsgi", 2).await?;
        ensure!(two.iter().all(|pid| five.contains(pid)), "{two:?} are not of {five:?}");
        gone(&five, &two)?;
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn imperium_scale() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let load = load(stack)?;
        stack.command("scale", &["wsgi", "4"]).await?;
        let four = stack.ready("wsgi", 4).await?;
        load.flows(50).await?;
        stack.command("scale", &["wsgi", "1"]).await?;
        gone(&four, &stack.ready("wsgi", 1).await?)?;
        load.flows(50).await?;
        let file = std::fs::read_to_string(stack.file("wsgi"))?;
        ensure!(file.contains("workers = 1"), "the number did not go into the file: {file}");
        ensure!(
            stack.command("scale", &["nobody", "1"]).await.is_err(),
            "an app that is not there was scaled"
        );
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn imperium_reload() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let load = load(stack)?;
        let old = stack.status().await?.app("wsgi").cloned();
        stack.command("reload", &["wsgi"]).await?;
        replaced(stack, old).await?;
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_touched_file_is_a_reload() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let load = load(stack)?;
        let old = stack.status().await?.app("wsgi").cloned();
        stack.touch("wsgi")?;
        replaced(stack, old).await?;
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_changed_environment_replaces_the_workers() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(2);
    stack::with([vassal.clone()], async |stack| {
        let load = load(stack)?;
        let old = stack.status().await?.app("wsgi").cloned();
        stack.put(&vassal.env("COLOUR", "green"))?;
        replaced(stack, old).await?;
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_drained_worker_finishes_its_requests() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let held = crate::gate::Gate::send(&client, stack.root(), http::Method::POST);
        let old = held.begun(1).await?[0];
        stack.touch("wsgi")?;
        let new = |app: &App| app.ready().iter().any(|pid| *pid != old);
        stack.until("wsgi", "a new worker is ready", new).await?;
        ensure!(held.pass().await? == old, "the old worker did not finish what it had begun");
        gone(&[old], &stack.ready("wsgi", 1).await?)
    })
    .await
}

fn load(stack: &Stack) -> anyhow::Result<Load> {
    Ok(Load::start(&stack.client("wsgi", Protocol::Http1)?, CONNECTIONS, Kind::Both))
}

async fn replaced(stack: &Stack, old: Option<App>) -> anyhow::Result<()> {
    let (generation, old) = old.map(|app| (app.generation, app.ready())).unwrap_or_default();
    let is_new = |app: &App| app.is_whole() && app.generation > generation;
    let new = stack.until("wsgi", "new workers took over", is_new).await?.ready();
    ensure!(new.len() == old.len(), "{old:?} became {new:?}");
    ensure!(old.iter().all(|pid| !new.contains(pid)), "{old:?} are still among {new:?}");
    gone(&old, &new)
}

/// Checks that the old workers have exited, except for those that stay.
fn gone(old: &[u32], stay: &[u32]) -> anyhow::Result<()> {
    let stay = BTreeSet::from_iter(stay);
    let left: Vec<_> =
        old.iter().filter(|pid| !stay.contains(pid) && !process::ends(**pid, TIMEOUT)).collect();
    ensure!(left.is_empty(), "{left:?} live on");
    Ok(())
}
