//! `imperium.on_worker_exit`: a serving worker is notified of each exited process of its app.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::ensure;
use rustix::process::Signal;
use tests::client::Protocol;
use tests::place::Place;
use tests::process;
use tests::stack;
use tests::vassal::Vassal;
use tests::wait::until;

/// Uses the code of docs/python.md. Each worker has a gauge from its import on.
const APP: &str = r#"
import imperium
from prometheus_client import CollectorRegistry, Gauge, generate_latest, multiprocess

imperium.on_worker_exit(multiprocess.mark_process_dead)

@imperium.on_worker_exit
def broken(pid):
    raise RuntimeError(f"cannot forget {pid}")

@imperium.on_worker_exit
def note(pid):
    with open("ended", "a") as file:
        file.write(f"{pid}\n")

alive = Gauge("alive", "Workers", multiprocess_mode="livesum")
imperium.on_fork(lambda: alive.set(1))

def application(environ, start_response):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [generate_latest(registry)]
"#;

fn noted(folder: &Path) -> BTreeSet<u32> {
    let ended = fs::read_to_string(folder.join("ended")).unwrap_or_default();
    ended.lines().filter_map(|it| it.parse().ok()).collect()
}

/// The pids whose gauges are counted.
fn gauges(folder: &Path) -> anyhow::Result<BTreeSet<u32>> {
    let files = fs::read_dir(folder.join("metrics"))?.flatten();
    let names = files.filter_map(|it| it.file_name().into_string().ok());
    Ok(names.filter_map(|it| it.strip_prefix("gauge_livesum_")?.strip_suffix(".db")?.parse().ok()).collect())
}

#[tokio::test]
async fn gauges_of_exited_workers_are_removed() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    for (preload, workers) in [("preload = false", 2), ("preload = true", 2), ("preload = false", 1)] {
        let folder = tempfile::tempdir()?;
        let metrics = folder.path().join("metrics");
        fs::create_dir(&metrics)?;
        fs::write(folder.path().join("measured.py"), APP)?;
        let vassal = Vassal::new("measured", folder.path(), "measured").python(&place.venv).workers(workers);
        let vassal = vassal.key(preload).env("PROMETHEUS_MULTIPROC_DIR", &metrics.display().to_string());
        stack::with([vassal], async |stack| {
            let count = workers as usize;
            let mut gone = BTreeSet::new();
            for end in ["kill", "kill while emperord is away", "reload"] {
                let before = stack.ready("measured", count).await?;
                match end {
                    "reload" => {
                        gone.extend(before);
                        stack.command("reload", &["measured"]).await?;
                    }
                    "kill" => {
                        gone.insert(before[0]);
                        stack.kill(before[0])?;
                    }
                    _ => {
                        gone.insert(before[0]);
                        let emperord = stack.daemon("emperord").await?;
                        process::signal(stack.up(), Signal::STOP)?;
                        stack.kill(emperord)?;
                        process::signal(before[0], Signal::KILL)?;
                        ensure!(process::ends(before[0], tests::wait::TIMEOUT), "it is still running");
                        process::signal(stack.up(), Signal::CONT)?;
                    }
                }
                until(&format!("the app is notified of all of {gone:?} after {end}"), async || {
                    Ok(noted(folder.path()).is_superset(&gone).then_some(()))
                })
                .await?;
            }
            stack.logged(&["`imperium.on_worker_exit` raised an exception"]).await?;
            stack.ready("measured", count).await?;
            ensure!(
                gauges(folder.path())?.is_disjoint(&gone),
                "{:?} are of {gone:?}",
                gauges(folder.path())?
            );
            let client = stack.client("measured", Protocol::Http2)?;
            let text = client.get("/").await?.expect(200)?.text();
            ensure!(text.contains(&format!("alive {workers}.0\n")), "{text}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
