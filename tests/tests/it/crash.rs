//! `kill -9` of each process under load, and graceful stops of frontd.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, ensure};
use http::Method;
use rustix::process::Signal;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process::{self, Process};
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};
use tokio::net::TcpStream;

use crate::gate::Gate;

#[tokio::test]
async fn a_killed_worker_is_replaced_and_no_get_is_lost() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let load = Load::start(client, 6, Kind::Gets);
        for _ in 0..3 {
            load.flows(30).await?;
            let before = stack.ready("wsgi", 2).await?;
            stack.kill(before[0])?;
            let replaced = |app: &App| app.is_whole() && !app.ready().contains(&before[0]);
            let after = stack.until("wsgi", "the dead worker is replaced", replaced).await?.ready();
            ensure!(after.contains(&before[1]), "{before:?} became {after:?}");
        }
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn only_a_post_that_was_started_fails_with_its_worker() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let load = Load::start(client, 6, Kind::Posts);
        let mut kills = 0;
        for _ in 0..3 {
            load.flows(30).await?;
            let before = stack.ready("wsgi", 2).await?;
            stack.kill(before[1])?;
            kills += 1;
            let replaced = |app: &App| app.is_whole() && !app.ready().contains(&before[1]);
            stack.until("wsgi", "the dead worker is replaced", replaced).await?;
        }
        let ledger = load.finish().await?;
        // A worker has one thread here, so it has at most one request running.
        ensure!(ledger.status(502) <= kills, "more were lost than were begun: {ledger:#?}");
        ensure!(ledger.right + ledger.status(502) == ledger.sent, "{ledger:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_get_is_retried_on_another_worker_and_a_post_is_not() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let get = Gate::get(client, stack.root());
        let first = get.begun(1).await?[0];
        stack.kill(first)?;
        let second = get.begun(2).await?[1];
        ensure!(first != second, "{first} was dead");
        ensure!(get.pass().await? == second, "another answered");

        stack.ready("wsgi", 2).await?;
        let post = Gate::send(client, stack.root(), Method::POST);
        let pids = post.begun(1).await?;
        stack.kill(pids[0])?;
        let (record, answer) = post.end().await?;
        ensure!(answer.status == 502, "502 expected, not {answer:?}");
        ensure!(record == pids, "a POST was begun again: {record:?}");
        Ok(())
    })
    .await
}

/// A request that is retried because it may have killed its worker can still take long, like a long poll.
#[tokio::test]
async fn retried_requests_do_not_block_the_only_worker() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).key("threads = 16");
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        let held = [(); 5].map(|()| Gate::get(&client, stack.root()));
        for gate in &held {
            gate.begun(1).await?;
        }
        stack.kill(stack.ready("wsgi", 1).await?[0])?;
        for gate in &held {
            gate.begun(2).await?;
        }
        client.get("/hello").await?.expect(200)?;
        let worker = stack.ready("wsgi", 1).await?[0];
        for gate in held {
            ensure!(gate.pass().await? == worker, "another answered");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_emperord_affects_nothing_else() -> anyhow::Result<()> {
    wsgi(3, async |stack, client| {
        let (gets, posts) = (Load::start(client, 4, Kind::Gets), Load::start(client, 2, Kind::Posts));
        let workers = stack.ready("wsgi", 3).await?;
        for _ in 0..2 {
            gets.flows(30).await?;
            let emperord = stack.status().await?.emperord.pid;
            stack.kill(emperord)?;
            gets.flows(30).await?;
            let adopted = async || {
                let Ok(status) = stack.status().await else { return Ok(None) };
                let whole = status.app("wsgi").is_some_and(App::is_whole);
                Ok((status.emperord.pid != emperord && whole).then_some(()))
            };
            until("the next emperord has adopted the workers", adopted).await?;
            ensure!(stack.ready("wsgi", 3).await? == workers, "other workers than {workers:?}");
            no_others(stack, &workers).await?;
        }
        gets.flows(30).await?;
        gets.finish().await?.all_right()?;
        posts.finish().await?.all_right()?;

        stack.command("scale", &["wsgi", "1"]).await?;
        let one = stack.ready("wsgi", 1).await?;
        ensure!(workers.contains(&one[0]), "{one:?} was not adopted");
        no_others(stack, &one).await
    })
    .await
}

/// A worker that dies while emperord is down is replaced once emperord is back.
#[tokio::test]
async fn the_folder_of_vassals_is_missing_when_emperord_starts() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let load = Load::start(client, 2, Kind::Gets);
        let before = stack.ready("wsgi", 2).await?;
        let (folder, away) = (stack.root().join("vassals"), stack.root().join("away"));
        fs::rename(&folder, &away)?;
        stack.kill(stack.daemon("emperord").await?)?;
        stack.logged(&["vassals: the folder doesn't exist", "restore it"]).await?;
        load.flows(30).await?;

        fs::rename(&away, &folder)?;
        ensure!(stack.ready("wsgi", 2).await? == before, "the workers are not the same");
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_worker_dies_while_emperord_is_down() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let load = Load::start(client, 4, Kind::Gets);
        let workers = stack.ready("wsgi", 2).await?;
        load.flows(30).await?;
        stack.kill(stack.status().await?.emperord.pid)?;
        stack.kill(workers[0])?;
        let replaced = |app: &App| app.is_whole() && !app.ready().contains(&workers[0]);
        let now = stack.until("wsgi", "the dead worker is replaced", replaced).await?.ready();
        ensure!(now.contains(&workers[1]), "{workers:?} became {now:?}");
        no_others(stack, &now).await?;
        load.finish().await?.all_right()
    })
    .await
}

/// A reload fails to start, then workers are killed one after another: each is replaced with the version that
/// worked.
#[tokio::test]
async fn workers_killed_after_an_abandoned_reload_are_replaced() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(3);
    stack::with([vassal.clone()], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 4, Kind::Gets);
        let old = stack.ready("wsgi", 3).await?;
        stack.put(&vassal.app("edges:no_such_callable"))?;
        let abandoned = |app: &App| app.notices.iter().any(|it| it.contains("did not start"));
        stack.until("wsgi", "the reload is abandoned", abandoned).await?;
        for pid in old {
            stack.kill(pid)?;
            let replaced = |app: &App| app.ready().len() == 3 && !app.ready().contains(&pid);
            let status = stack.until("wsgi", "the dead worker is replaced", replaced).await?;
            ensure!(abandoned(&status), "it does not say what is held back: {status:#?}");
            load.flows(30).await?;
        }
        // The next emperord also knows the version that worked.
        let emperord = stack.daemon("emperord").await?;
        let before = stack.status().await?.app("wsgi").map(App::ready).unwrap_or_default();
        stack.kill(emperord)?;
        stack.until("wsgi", "the reload is abandoned again", abandoned).await?;
        stack.kill(before[0])?;
        let replaced = |app: &App| app.ready().len() == 3 && !app.ready().contains(&before[0]);
        stack.until("wsgi", "the dead worker is replaced", replaced).await?;
        load.flows(30).await?;
        load.finish().await?.all_right()
    })
    .await
}

/// The workers aren't recorded any more: they serve until others have replaced them.
#[tokio::test]
async fn a_lost_or_damaged_state_file_loses_no_request() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let (gets, posts) = (Load::start(client, 4, Kind::Gets), Load::start(client, 2, Kind::Posts));
        let file = stack.root().join("run/state/workers.json");
        for damage in ["", "{"] {
            let before = stack.ready("wsgi", 2).await?;
            gets.flows(30).await?;
            match damage {
                "" => fs::remove_file(&file)?,
                text => fs::write(&file, text)?,
            }
            stack.kill(stack.daemon("emperord").await?)?;
            let replaced = |app: &App| app.is_whole() && app.ready().iter().all(|it| !before.contains(it));
            stack.until("wsgi", "others are ready in their places", replaced).await?;
            gets.flows(30).await?;
        }
        stack.logged(&["the list of running workers is damaged"]).await?;
        stack.logged(&["adopted an unknown worker", "wsgi-1"]).await?;
        gets.finish().await?.all_right()?;
        posts.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_killed_frontd_is_restarted_and_serves_again() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let workers = stack.ready("wsgi", 2).await?;
        for _ in 0..2 {
            end_frontd(stack, Signal::KILL).await?;
            // `up` holds the sockets: new connections wait instead of being refused.
            client.get("/hello").await?.expect(200)?;
            ensure!(stack.ready("wsgi", 2).await? == workers, "frontd took workers with it");
        }
        let load = Load::start(client, 4, Kind::Gets);
        load.flows(50).await?;
        end_frontd(stack, Signal::KILL).await?;
        load.flows(50).await?;
        let ledger = load.finish().await?;
        ensure!(
            ledger.lost <= 4 && ledger.right + ledger.lost == ledger.sent,
            "more than what was cut: {ledger:#?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn frontd_loses_no_request_when_it_is_stopped() -> anyhow::Result<()> {
    wsgi(2, async |stack, _| {
        let mut loads = Vec::new();
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            loads.push(Load::start(&stack.client("wsgi", protocol)?, 4, Kind::Both));
        }
        for _ in 0..3 {
            for load in &loads {
                load.flows(50).await?;
            }
            end_frontd(stack, Signal::TERM).await?;
        }
        for load in loads {
            load.flows(50).await?;
            load.finish().await?.all_right()?;
        }
        Ok(())
    })
    .await
}

/// New requests are handled by the next frontd, while the old one waits for a slow response.
#[tokio::test]
async fn the_next_frontd_serves_while_the_old_one_drains() -> anyhow::Result<()> {
    wsgi(3, async |stack, client| {
        // The next frontd doesn't know which workers they occupy.
        let (held, other) = (Gate::get(client, stack.root()), Gate::get(client, stack.root()));
        held.begun(1).await?;
        other.begun(1).await?;
        let old = Process::of(stack.daemon("frontd").await?).context("frontd has ended")?;
        process::signal(old.pid, Signal::TERM)?;
        stack.logged(&["frontd", "drains while the next one starts"]).await?;
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            stack.client("wsgi", protocol)?.get("/hello").await?.expect(200)?;
        }
        stack.all_ready().await.context("the next frontd answers probes")?;
        ensure!(old.is_running() && !held.is_answered(), "the old frontd did not wait for its request");
        held.pass().await?;
        other.pass().await?;
        stack.logged(&["drained", "exited with 0"]).await?;
        ensure!(!old.is_running(), "the old frontd is still running");
        Ok(())
    })
    .await
}

/// When the stack stops, requests of a frontd that is already draining are awaited too.
#[tokio::test]
async fn a_stopping_stack_waits_for_a_draining_frontd() -> anyhow::Result<()> {
    let mut stack = Stack::start(Place::of_tests()?, [Vassal::wsgi(&Place::of_tests()?).workers(2)])?;
    stack.all_ready().await?;
    let held = Gate::get(&stack.client("wsgi", Protocol::Http1)?, stack.root());
    held.begun(1).await?;
    process::signal(stack.daemon("frontd").await?, Signal::TERM)?;
    stack.logged(&["frontd", "drains while the next one starts"]).await?;
    stack.all_ready().await?;
    stack.request_stop()?;
    stack.logged(&["imperium", "ended", "daemon=frontd"]).await?;
    held.pass().await?;
    stack.stop_with_clients().await
}

/// Idle connections don't delay a restart.
#[tokio::test]
async fn a_stopping_frontd_does_not_wait_for_idle_connections() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        fs::write(stack.root().join("frontd.toml"), "drain = \"8s\"\n")?;
        end_frontd(stack, Signal::KILL).await?;
        client.get("/hello").await?.expect(200)?;
        let _silent = (TcpStream::connect(stack.http).await?, TcpStream::connect(stack.https).await?);
        let open = async || {
            let metrics = stack.probe("/-/metrics").await?.expect(200)?.text();
            Ok(metrics.contains("imperium_connections 2\n").then_some(()))
        };
        until("both connections are open", open).await?;
        end_frontd(stack, Signal::TERM).await?;
        ensure!(!stack.log().contains("drain took too long"), "it waited for silent clients");
        Ok(())
    })
    .await
}

/// emperord is frozen instead of killed, since `up` would restart it.
#[tokio::test]
async fn frontd_serves_from_the_last_table_while_emperord_is_down() -> anyhow::Result<()> {
    wsgi(2, async |stack, client| {
        let emperord = stack.status().await?.emperord.pid;
        client.get("/hello").await?.expect(200)?;
        process::signal(emperord, Signal::STOP)?;
        let served = served_without(stack, client).await;
        process::signal(emperord, Signal::CONT)?;
        served
    })
    .await
}

async fn served_without(stack: &Stack, client: &Client) -> anyhow::Result<()> {
    end_frontd(stack, Signal::KILL).await?;
    client.get("/hello").await?.expect(200)?;
    let load = Load::start(client, 4, Kind::Gets);
    load.flows(100).await?;
    load.finish().await?.all_right()
}

async fn end_frontd(stack: &Stack, signal: Signal) -> anyhow::Result<()> {
    let frontd = stack.daemon("frontd").await?;
    process::signal(frontd, signal)?;
    let again = async || {
        let ready = stack.probe("/-/ready").await.is_ok_and(|answer| answer.status == 200);
        Ok((ready && stack.daemon("frontd").await? != frontd).then_some(()))
    };
    until("frontd serves again", again).await
}

/// Checks that no processes are running apart from the daemons and these workers.
async fn no_others(stack: &Stack, workers: &[u32]) -> anyhow::Result<()> {
    let daemons = [stack.daemon("frontd").await?, stack.daemon("emperord").await?];
    let all: BTreeSet<_> = Process::descendants(stack.up()).into_iter().map(|it| it.pid).collect();
    let expected = workers.iter().copied().chain(daemons).collect();
    ensure!(all == expected, "{all:?} run, where {expected:?} should");
    Ok(())
}

async fn wsgi(
    workers: u32,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(workers)], async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        test(stack, &client).await
    })
    .await
}

/// It can't attach, so it can't be adopted, and nothing else would ever stop it.
#[tokio::test]
async fn a_frozen_worker_that_is_not_recorded_is_killed() -> anyhow::Result<()> {
    wsgi(2, async |stack, _| {
        let frozen = stack.ready("wsgi", 2).await?[0];
        process::signal(frozen, Signal::STOP)?;
        fs::remove_file(stack.root().join("run/state/workers.json"))?;
        stack.kill(stack.daemon("emperord").await?)?;
        stack.logged(&["adopted an unknown worker", &format!("pid={frozen}")]).await?;
        ensure!(process::ends(frozen, TIMEOUT), "the frozen worker is still running");
        stack.until("wsgi", "two other workers are ready", App::is_whole).await?;
        Ok(())
    })
    .await
}
