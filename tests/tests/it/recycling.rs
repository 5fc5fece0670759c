//! Workers are recycled under load without failing requests.

use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;

const CONNECTIONS: usize = 6;

#[tokio::test]
async fn recycled_after_a_number_of_requests() -> anyhow::Result<()> {
    let recycle = "recycle = { requests = 80, jitter = \"50%\" }";
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(3).key(recycle);
    recycled_under_load(vassal, 6, "it has answered").await
}

#[tokio::test]
async fn recycled_at_a_maximum_age() -> anyhow::Result<()> {
    // Longer than a start takes on a busy machine, so that both workers are ready at some time.
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(2).key("recycle = { lifetime = \"5s\" }");
    recycled_under_load(vassal, 3, "s old").await
}

#[tokio::test]
async fn recycled_at_a_memory_limit() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).app("leaky").key("recycle = { memory = \"90 MB\" }");
    recycled_under_load(vassal, 2, "MB of memory").await
}

/// The interpreter alone needs more.
#[tokio::test]
async fn recycled_at_a_memory_limit_below_the_apps_need() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).key("recycle = { memory = \"1 MB\" }");
    stack::with([vassal], async |stack| {
        let load = load(stack)?;
        let reported = |app: &App| app.notices.iter().any(|it| it.contains("recycle.memory is below what"));
        let status = stack.until("wsgi", "the status has the notice", reported).await?;
        ensure!(status.recycled <= 1, "{} were replaced within seconds", status.recycled);
        load.flows(100).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn with_preload() -> anyhow::Result<()> {
    let recycle = "preload = true\nrecycle = { requests = 80, jitter = \"50%\" }";
    recycled_under_load(Vassal::wsgi(&Place::of_tests()?).workers(3).key(recycle), 6, "it has answered").await
}

async fn recycled_under_load(vassal: Vassal, times: u64, why: &str) -> anyhow::Result<()> {
    let workers =
        vassal.text().lines().find_map(|line| line.strip_prefix("workers = ")?.parse().ok()).unwrap_or(1);
    stack::with([vassal], async |stack| {
        let load = load(stack)?;
        let name = "wsgi";
        let status = stack.until(name, "workers were recycled", |app| app.recycled >= times).await?;
        ensure!(status.last_recycled.contains(why), "{:?} does not say {why}", status.last_recycled);
        let full = |app: &App| app.ready().len() >= workers;
        ensure!(full(&status), "fewer serve than are wanted: {status:#?}");
        stack.logged(&["worker is drained", "recycled: ", why]).await?;
        load.flows(100).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_worker_that_cannot_be_replaced_keeps_serving() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile_with(&place)?;
    let vassal = Vassal::new("wsgi", folder.path(), "late").key("recycle = { requests = 50 }");
    stack::with([vassal], async |stack| {
        fs::write(folder.path().join("broken"), "")?;
        let load = load(stack)?;
        let old = stack.status().await?.app("wsgi").map(App::ready).unwrap_or_default();
        let reported = |app: &App| app.error().contains("RuntimeError: broken meanwhile");
        let status = stack.until("wsgi", "the failure is reported", reported).await?;
        ensure!(status.ready() == old, "{old:?} does not serve on: {status:#?}");
        let leaving: Vec<_> = status.workers.iter().map(|it| it.leaving.as_str()).collect();
        ensure!(leaving.iter().any(|it| it.starts_with("to be recycled: it has answered")), "{leaving:?}");
        load.flows(100).await?;

        fs::remove_file(folder.path().join("broken"))?;
        stack.until("wsgi", "it is replaced", |app| app.recycled >= 1 && app.error().is_empty()).await?;
        load.flows(100).await?;
        load.finish().await?.all_right()
    })
    .await
}

/// A folder with an app that can't be imported while a file `broken` exists.
fn tempfile_with(place: &Place) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let edges: PathBuf = place.apps.join("wsgi/edges.py");
    fs::copy(edges, folder.path().join("edges.py"))?;
    let late = "import os\nfrom edges import application\n\
                if os.path.exists('broken'):\n    raise RuntimeError('broken meanwhile')\n";
    fs::write(folder.path().join("late.py"), late)?;
    Ok(folder)
}

fn load(stack: &Stack) -> anyhow::Result<Load> {
    Ok(Load::start(&stack.client("wsgi", Protocol::Http1)?, CONNECTIONS, Kind::Both))
}
