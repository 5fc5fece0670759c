//! A worker accepts requests only after its health path has returned 2xx.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack;
use tests::status::App;
use tests::vassal::Vassal;

/// Healthy once a file `well` exists. `/up` streams its response, and checks the request's host.
const APP: &str = r#"
import os
import edges

def application(environ, start_response):
    if environ["PATH_INFO"] != "/up":
        return edges.application(environ, start_response)
    assert environ["HTTP_HOST"].split(":")[0] == "ill.localhost", environ["HTTP_HOST"]
    assert environ["wsgi.url_scheme"] == "https"
    well = os.path.exists("well")
    start_response("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain")])
    return iter([b"x" * 200_000, b"y" * 200_000])
"#;

fn app() -> anyhow::Result<(tempfile::TempDir, Vassal)> {
    let folder = tempfile::tempdir()?;
    fs::copy(Place::of_tests()?.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
    fs::write(folder.path().join("app.py"), APP)?;
    let vassal = Vassal::new("ill", folder.path(), "app.py").workers(2).key("health = \"/up\"");
    Ok((folder, vassal))
}

#[tokio::test]
async fn requests_wait_until_the_app_is_healthy() -> anyhow::Result<()> {
    let (folder, vassal) = app()?;
    for preload in ["", "preload = true"] {
        let _there_at_the_second = fs::remove_file(folder.path().join("well"));
        stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
            stack.put(&vassal.clone().key(preload))?;
            stack
                .logged(&["ill-2", "worker is not ready yet: its health path `/up` responds with 503"])
                .await?;
            let status = stack.until("ill", "it starts", |app| app.workers.len() == 2).await?;
            ensure!(status.ready().is_empty() && status.state == "starting", "{status:#?}");

            fs::write(folder.path().join("well"), "")?;
            stack.ready("ill", 2).await?;
            let client = stack.client("ill", Protocol::Http2)?;
            client.get("/hello").await?.expect(200)?;
            let up = client.get("/up").await?.expect(200)?;
            ensure!(up.body.len() == 400_000, "{} bytes", up.body.len());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_app_that_never_becomes_healthy_is_given_up_and_the_old_version_serves() -> anyhow::Result<()> {
    let (folder, vassal) = app()?;
    fs::write(folder.path().join("well"), "")?;
    let vassal = vassal.table("[timeouts]\nstart = \"2s\"");
    stack::with([vassal.clone()], async |stack| {
        let load = Load::start(&stack.client("ill", Protocol::Http1)?, 4, Kind::Both);
        let old = stack.ready("ill", 2).await?;
        fs::remove_file(folder.path().join("well"))?;
        stack.touch("ill")?;
        let why = "was not ready within 2 s: its health path `/up` responds with 503";
        let status = stack.until("ill", "the reload is given up", |app| app.error().contains(why)).await?;
        ensure!(status.ready() == old, "{old:?} do not serve on: {status:#?}");
        load.flows(100).await?;
        load.finish().await?.all_right()?;

        stack.remove("ill")?;
        stack.logged(&["ill-1", "worker ended"]).await?;
        stack.put(&vassal.clone().named("alone").domain("ill.localhost"))?;
        // The start is retried forever.
        let retried = |app: &App| app.state == "backing_off" && app.error().contains(why);
        stack.until("alone", "its start is given up", retried).await?;
        Ok(())
    })
    .await
}
