//! Failing apps, and what their operators see.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;

#[tokio::test]
async fn an_app_that_raises_gives_500_and_a_traceback_in_the_log() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    stack::with([Vassal::wsgi(&place), Vassal::flask(&place)], async |stack| {
        let bare = stack.client("wsgi", Protocol::Http2)?;
        let pid = stack.ready("wsgi", 1).await?;
        for path in ["/raise-at-once", "/raise-after-start"] {
            let answer = bare.get(path).await?.expect(500)?;
            ensure!(!answer.text().contains("ValueError"), "a visitor sees the inside: {}", answer.text());
        }
        stack.logged(&["Traceback (most recent call last)"]).await?;
        stack.logged(&["edges.py", "in raise_at_once"]).await?;
        stack.logged(&["ValueError: raised before start_response"]).await?;
        stack.logged(&["ValueError: raised after start_response"]).await?;
        bare.get("/hello").await?.expect(200)?;
        ensure!(stack.ready("wsgi", 1).await? == pid, "the worker was restarted");

        stack.client("flask", Protocol::Http2)?.get("/raise").await?.expect(500)?;
        stack.logged(&["RuntimeError: raised on purpose"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn text_printed_by_an_app_is_in_the_log() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        stack.client("wsgi", Protocol::Http1)?.get("/errors").await?.expect(200)?;
        stack.logged(&["wsgi-1", "a line for the log, from wsgi.errors"]).await?;
        stack.logged(&["wsgi-1", "a line for the log, from print"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_is_not_callable_is_reported() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        fs::write(stack.root().join("number.py"), "application = 42\n")?;
        for (app, name) in [("number", "the app"), ("number:application", "application")] {
            stack.put(&Vassal::new("number", stack.root(), app))?;
            let error = format!("TypeError: {name} of module number is not callable");
            stack.until("number", "the error names it", |app| app.error().contains(&error)).await?;
        }
        Ok(())
    })
    .await
}

/// For example a database that starts after the app.
#[tokio::test]
async fn an_app_whose_import_fails_temporarily_recovers_by_itself() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let app = stack.root().join("late");
        fs::create_dir(&app)?;
        fs::copy(stack.place.apps.join("wsgi/edges.py"), app.join("edges.py"))?;
        fs::write(app.join("late.py"), "open('database').close()\nfrom edges import application\n")?;
        let vassal = Vassal::new("late", &app, "late:application").workers(2);
        stack.put(&vassal)?;
        let waits = |app: &App| app.state == "backing_off" && app.notices.len() == 1;
        let status = stack.until("late", "its next start waits", waits).await?;
        wait_for_error(stack, &status, &["FileNotFoundError", "database"]).await?;
        ensure!(
            status.notices[0].starts_with("2 of 2 workers missing: the next start is in "),
            "{status:#?}"
        );
        let client = stack.client("late", Protocol::Http2)?;
        client.get("/hello").await?.expect(503)?;

        fs::write(app.join("database"), "")?;
        let healed = stack.until("late", "it serves", App::is_whole).await?;
        ensure!(healed.notices.is_empty() && healed.error().is_empty(), "{healed:#?}");
        client.get("/hello").await?.expect(200)?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn an_app_with_a_syntax_error_is_retried_only_when_its_source_files_change() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let app = stack.root().join("broken");
        fs::create_dir(&app)?;
        fs::write(app.join("late.py"), "application = (\n")?;
        // A file that can be watched, unlike an interpreter in PATH.
        let python = stack.place.venv.clone();
        for preload in ["preload = false", "preload = true"] {
            let name = preload.replace(" = ", "-");
            stack
                .put(&Vassal::new(&name, &app, "late:application").workers(2).python(&python).key(preload))?;
            let failed = |app: &App| app.state == "failed" && app.notices.len() == 1;
            let status = stack.until(&name, "the app has failed", failed).await?;
            wait_for_error(stack, &status, &["SyntaxError"]).await?;
            ensure!(status.notices[0].ends_with("is when the app's own files change"), "{status:#?}");
        }
        let tries = stack.log().matches("SyntaxError").count();
        load.flows(300).await?;
        ensure!(stack.log().matches("SyntaxError").count() == tries, "it is started again and again");
        stack.client("preload-false", Protocol::Http2)?.get("/").await?.expect(503)?;

        fs::copy(stack.place.apps.join("wsgi/edges.py"), app.join("late.py"))?;
        for name in ["preload-false", "preload-true"] {
            stack.until(name, "the edit is noticed", |app| app.is_whole() && app.error().is_empty()).await?;
            stack.client(name, Protocol::Http2)?.get("/hello").await?.expect(200)?;
        }
        load.finish().await?.all_right()
    })
    .await
}

async fn wait_for_error(stack: &Stack, status: &App, words: &[&str]) -> anyhow::Result<()> {
    for words in words {
        ensure!(status.error().contains(words), "{words} expected in {:?}", status.error());
        stack.logged(&[words]).await?;
    }
    stack.logged(&["late.py", "line 1"]).await?;
    Ok(())
}

/// Fewer concurrent starts than apps, and each start takes a large part of its limit.
#[tokio::test]
async fn many_apps_start_in_turn_within_their_limits() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    fs::copy(place.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
    let slow = "import time\nfrom edges import application\ntime.sleep(1)\n";
    fs::write(folder.path().join("slow.py"), slow)?;
    let apps = (1..=10).map(|number| {
        Vassal::new(&format!("slow{number}"), folder.path(), "slow").table("[timeouts]\nstart = \"8s\"")
    });
    let stack = Stack::start_with_files(place, apps, &[("emperord.toml", "concurrent_starts = 1\n")])?;
    stack.all_ready().await?;
    let log = stack.log();
    ensure!(!log.contains("was not ready within"), "a start was ended while it waited for its turn");
    ensure!(log.matches("worker is ready").count() == 10, "some were started twice");
    stack.stop_with_clients().await
}

#[tokio::test]
async fn an_app_whose_process_exits_at_once_is_not_restarted_in_a_loop() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let app = stack.root().join("mortal");
        fs::create_dir(&app)?;
        fs::write(app.join("mortal.py"), "import os\nos._exit(9)\n")?;
        stack.put(&Vassal::new("mortal", &app, "mortal:application"))?;
        let waits =
            |app: &App| ["backing_off", "failed"].contains(&app.state.as_str()) && !app.error().is_empty();
        stack.until("mortal", "its starts wait", waits).await?;
        stack.client("wsgi", Protocol::Http2)?.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}
