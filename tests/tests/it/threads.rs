//! Workers with several threads: their capacity, and the environ's values about them.

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::until;

use crate::gate::Gate;

#[tokio::test]
async fn a_worker_handles_as_many_requests_as_it_has_threads() -> anyhow::Result<()> {
    threads(1, 4, async |stack, client| {
        let app = stack.until("wsgi", "the worker is ready", App::is_whole).await?;
        ensure!(app.workers[0].capacity == 4, "{:#?}", app.workers);
        let held = [(); 4].map(|()| Gate::get(client, stack.root()));
        for gate in &held {
            ensure!(gate.begun(1).await? == [app.workers[0].pid], "another process");
        }
        let fifth = Gate::get(client, stack.root());
        stack.waiting("wsgi", 1).await?;
        ensure!(fifth.pids()?.is_empty(), "a fifth began while four were held");
        stack.until("wsgi", "four are under way", |app| app.workers[0].busy == 4).await?;

        let [first, others @ ..] = held;
        first.pass().await?;
        fifth.begun(1).await?;
        for gate in others.into_iter().chain([fifth]) {
            gate.pass().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn threads_respond_under_load_while_others_are_held() -> anyhow::Result<()> {
    threads(2, 3, async |stack, client| {
        let pids = stack.ready("wsgi", 2).await?;
        let held = [(); 4].map(|()| Gate::get(client, stack.root()));
        for gate in &held {
            gate.begun(1).await?;
        }
        let load = Load::start(client, 8, Kind::Both);
        load.flows(300).await?;
        load.finish().await?.all_right()?;
        for gate in held {
            ensure!(pids.contains(&gate.pass().await?), "another process");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_environ_has_the_actual_concurrency() -> anyhow::Result<()> {
    for (workers, threads, expected) in
        [(1, 1, "False, False"), (1, 2, "True, False"), (2, 1, "False, True"), (2, 2, "True, True")]
    {
        self::threads(workers, threads, async |_, client| says(client, expected).await).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_environ_follows_the_number_of_workers() -> anyhow::Result<()> {
    threads(1, 2, async |stack, client| {
        let pid = stack.ready("wsgi", 1).await?;
        says(client, "True, False").await?;
        stack.command("scale", &["wsgi", "2"]).await?;
        ensure!(stack.ready("wsgi", 2).await?.contains(&pid[0]), "{pid:?} was restarted");
        for _ in 0..10 {
            says(client, "True, True").await?;
        }
        stack.command("scale", &["wsgi", "1"]).await?;
        stack.ready("wsgi", 1).await?;
        says(client, "True, False").await
    })
    .await
}

/// Waits until the environ has these values of `wsgi.multithread` and `wsgi.multiprocess`.
async fn says(client: &Client, expected: &str) -> anyhow::Result<()> {
    let expected_text = format!("[(1, 0), 'https', {expected}, False]");
    until(&format!("the environ says {expected_text}"), async || {
        Ok((client.get("/types").await?.expect(200)?.text() == expected_text).then_some(()))
    })
    .await
}

async fn threads(
    workers: u32,
    threads: u32,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(workers).key(&format!("threads = {threads}"));
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        test(stack, &client).await
    })
    .await
}
