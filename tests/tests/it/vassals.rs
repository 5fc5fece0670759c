//! The folder of vassals: files are added, changed, broken and deleted.

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process;
use tests::stack;
use tests::status::App;
use tests::vassal::Vassal;
use tests::visit;
use tests::wait::{TIMEOUT, until};

#[tokio::test]
async fn a_new_file_is_served_and_a_deleted_one_is_not() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    stack::with([Vassal::wsgi(&place)], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        // Without TLS, since there is no certificate for an unknown host.
        let client = stack.client("late", Protocol::Plain)?;
        client.get("/hello").await?.expect(404)?;

        stack.put(&Vassal::wsgi(&place).named("late").workers(2))?;
        until(
            "the new app is served",
            async || Ok((client.get("/hello").await?.status == 200).then_some(())),
        )
        .await?;
        let pids = stack.ready("late", 2).await?;
        stack.client("late", Protocol::Http2)?.get("/hello").await?.expect(200)?;

        stack.remove("late")?;
        until("the old app is not served", async || {
            Ok((client.get("/hello").await?.status == 404).then_some(()))
        })
        .await?;
        ensure!(pids.iter().all(|pid| process::ends(*pid, TIMEOUT)), "some of {pids:?} live on");
        let forgotten = async || Ok(stack.status().await?.app("late").is_none().then_some(()));
        until("the status forgets the app", forgotten).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_broken_edit_leaves_the_old_version_serving() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(2);
    stack::with([vassal.clone()], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let before = stack.ready("wsgi", 2).await?;

        stack.write("wsgi", &vassal.text().replace("workers = 2", "wokers = 3"))?;
        let misspelt =
            stack.until("wsgi", "the status tells the error", |app| !app.error().is_empty()).await?;
        for word in ["wsgi.toml", "wokers", "workers", "4"] {
            ensure!(misspelt.error().contains(word), "{word} expected in {:?}", misspelt.error());
        }
        stack.logged(&["wsgi.toml", "wokers"]).await?;

        stack.write("wsgi", "domains = [\"wsgi.localhost\"\n")?;
        let other = |app: &App| !app.error().is_empty() && app.error() != misspelt.error();
        stack.until("wsgi", "the status tells the other error", other).await?;
        ensure!(stack.ready("wsgi", 2).await? == before, "a broken file touched the workers");
        load.flows(50).await?;

        stack.put(&vassal.workers(3))?;
        stack
            .until("wsgi", "the file is right again", |app| app.is_whole() && app.error().is_empty())
            .await?;
        stack.ready("wsgi", 3).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn an_app_that_never_starts_leaves_the_old_version_serving() -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).workers(2);
    stack::with([vassal.clone()], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let before = stack.ready("wsgi", 2).await?;
        stack.put(&vassal.clone().app("edges:no_such_callable"))?;
        let status = stack.until("wsgi", "the status tells the error", |app| !app.error().is_empty()).await?;
        ensure!(status.error().contains("no_such_callable"), "{:?}", status.error());
        load.flows(50).await?;
        ensure!(status.ready() == before, "{before:?} became {:?}", status.ready());

        stack.put(&vassal.app("edges:echo"))?;
        let new = |app: &App| app.is_whole() && app.ready() != before && app.error().is_empty();
        stack.until("wsgi", "the next edit is followed", new).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn two_apps_share_a_host_with_different_paths() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let inner = Vassal::flask(&place).named("inner").text().replace("inner.localhost", "wsgi.localhost");
    stack::with([Vassal::wsgi(&place)], async |stack| {
        let inner = inner.replacen("app =", "path = \"/inner\"\napp =", 1);
        stack.write("inner", &inner.replace("\"/static/\"", "\"/inner/static/\""))?;
        stack.ready("inner", 1).await?;
        let client = stack.client("wsgi", Protocol::Http2)?;
        let environ = until("the inner app answers", async || {
            let answer = client.get("/inner/environ").await?;
            Ok((answer.status == 200).then_some(answer))
        });
        let environ = environ.await?.json()?;
        ensure!(environ["SCRIPT_NAME"] == "/inner" && environ["PATH_INFO"] == "/environ", "{environ}");
        ensure!(
            client.get("/inner/static/style.css").await?.header("content-type").contains("css"),
            "no style"
        );
        ensure!(client.get("/innermost").await?.status == 404, "a path that only begins alike");
        let outer = client.get("/environ").await?.expect(200)?.json()?;
        ensure!(outer["SCRIPT_NAME"] == "", "{outer}");
        let pids = [visit::pid(&client).await?, stack.ready("wsgi", 1).await?[0]];
        ensure!(pids[0] == pids[1], "the outer app is another's: {pids:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_files_in_the_folder_are_ignored() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        for name in ["notes.txt", ".hidden.toml", "wsgi.toml~"] {
            std::fs::write(stack.root().join("vassals").join(name), "nothing of ours")?;
        }
        stack.command("scale", &["wsgi", "2"]).await?;
        stack.ready("wsgi", 2).await?;
        let apps = stack.status().await?.apps;
        ensure!(apps.len() == 1, "{apps:#?}");
        Ok(())
    })
    .await
}

/// For example a deployment that failed half-way, or a file system that was unmounted.
#[tokio::test]
async fn an_emptied_folder_stops_no_app() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let vassals = [Vassal::wsgi(&place).workers(2), Vassal::wsgi(&place).named("other")];
    stack::with(vassals.clone(), async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let before = stack.ready("wsgi", 2).await?;
        stack.remove("wsgi")?;
        stack.remove("other")?;
        let missing = |app: &App| app.notices.iter().any(|it| it.contains("wsgi.toml is missing: all files"));
        stack.until("wsgi", "the status tells that its file is missing", missing).await?;
        stack.logged(&["its file is missing and it keeps serving", "imperium forget wsgi"]).await?;
        load.flows(50).await?;

        stack.put(&vassals[0])?;
        let back = |app: &App| app.is_whole() && app.notices.is_empty();
        let after = stack.until("wsgi", "its file is back", back).await?;
        ensure!(after.ready() == before, "{before:?} became {:?}", after.ready());
        let status = stack.command("forget", &["--all"]).await?;
        ensure!(status == "other: its workers end\n", "{status:?}");
        let forgotten = async || Ok(stack.status().await?.app("other").is_none().then_some(()));
        until("the status forgets the app", forgotten).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn a_replaced_folder_stops_no_app() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let load = Load::start(&stack.client("wsgi", Protocol::Http1)?, 2, Kind::Both);
        let before = stack.ready("wsgi", 1).await?;
        let (folder, away) = (stack.root().join("vassals"), stack.root().join("away"));
        std::fs::rename(&folder, &away)?;
        std::fs::create_dir(&folder)?;
        let missing = |app: &App| app.notices.iter().any(|it| it.contains("wsgi.toml is missing"));
        stack.until("wsgi", "the status tells that its file is missing", missing).await?;
        stack.kill(stack.daemon("emperord").await?)?;
        stack.until("wsgi", "the next emperord tells it, too", missing).await?;
        load.flows(50).await?;

        std::fs::remove_dir(&folder)?;
        std::fs::rename(&away, &folder)?;
        let back = |app: &App| app.is_whole() && app.notices.is_empty();
        let after = stack.until("wsgi", "its file is back", back).await?;
        ensure!(after.ready() == before, "{before:?} became {:?}", after.ready());
        load.finish().await?.all_right()
    })
    .await
}
