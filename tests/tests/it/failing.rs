//! Apps that fail, and what their operators are told.

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
async fn what_an_app_prints_is_in_the_log() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        stack.client("wsgi", Protocol::Http1)?.get("/errors").await?.expect(200)?;
        stack.logged(&["wsgi-1", "a line for the log, from wsgi.errors"]).await?;
        stack.logged(&["wsgi-1", "a line for the log, from print"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_cannot_be_called_is_named() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        std::fs::write(stack.root().join("number.py"), "application = 42\n")?;
        for (app, name) in [("number", "the app"), ("number:application", "application")] {
            stack.put(&Vassal::new("number", stack.root(), app))?;
            let error = format!("TypeError: {name} of module number is not callable");
            stack.until("number", "the error names it", |app| app.error().contains(&error)).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_that_cannot_be_imported_fails_alone_and_is_tried_again_when_its_file_changes()
-> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let app = stack.root().join("broken");
        std::fs::create_dir(&app)?;
        std::fs::write(app.join("late.py"), "import no_such_module_at_all\n")?;
        let vassal = Vassal::new("broken", &app, "late:application").workers(2);
        stack.put(&vassal)?;
        let failed = stack.until("broken", "the app has failed", |app| app.state == "failed").await?;
        told(stack, &failed).await?;

        let tries = tracebacks(stack);
        load.flows(200).await?;
        let still = stack.until("broken", "the app has failed", |app| app.state == "failed").await?;
        ensure!(still.workers.is_empty(), "it is started again and again: {:#?}", still.workers);
        ensure!(tracebacks(stack) == tries, "it is started again and again: {tries} tracebacks and more");
        stack.client("broken", Protocol::Http2)?.get("/").await?.expect(503)?;

        std::fs::copy(stack.place.apps.join("wsgi/edges.py"), app.join("late.py"))?;
        stack.touch("broken")?;
        stack.ready("broken", 2).await?;
        stack.client("broken", Protocol::Http2)?.get("/hello").await?.expect(200)?;
        load.finish().await?.all_right()
    })
    .await
}

async fn told(stack: &Stack, failed: &App) -> anyhow::Result<()> {
    for words in ["ModuleNotFoundError", "no_such_module_at_all"] {
        ensure!(failed.error().contains(words), "{words} expected in {:?}", failed.error());
        stack.logged(&[words]).await?;
    }
    stack.logged(&["late.py", "line 1"]).await?;
    Ok(())
}

fn tracebacks(stack: &Stack) -> usize {
    stack.log().matches("no_such_module_at_all").count()
}

#[tokio::test]
async fn an_app_whose_process_ends_at_once_is_not_started_in_a_loop() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let app = stack.root().join("mortal");
        std::fs::create_dir(&app)?;
        std::fs::write(app.join("mortal.py"), "import os\nos._exit(9)\n")?;
        stack.put(&Vassal::new("mortal", &app, "mortal:application"))?;
        let waits =
            |app: &App| ["backing_off", "failed"].contains(&app.state.as_str()) && !app.error().is_empty();
        stack.until("mortal", "its starts wait", waits).await?;
        stack.client("wsgi", Protocol::Http2)?.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}
