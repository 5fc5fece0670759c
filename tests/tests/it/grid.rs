//! The compatibility grid: the behaviours of `tests/grid`, with the app of each framework in `tests/apps/asgi`.

use std::fs;

use anyhow::{Context as _, ensure};
use tests::grid::{BARE, Framework, ROOT_PATH, Selection, Site, failures};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

/// The groups of cells that are supported.
const GROUPS: &str = "http,mount,tls,http2,websocket,websocket-tls,websocket-http2";

#[tokio::test]
async fn blacksheep() -> anyhow::Result<()> {
    grid("blacksheep").await
}

#[tokio::test]
async fn django_and_channels() -> anyhow::Result<()> {
    grid("django").await
}

#[tokio::test]
async fn fastapi() -> anyhow::Result<()> {
    grid("fastapi").await
}

#[tokio::test]
async fn litestar() -> anyhow::Result<()> {
    grid("litestar").await
}

#[tokio::test]
async fn quart() -> anyhow::Result<()> {
    grid("quart").await
}

#[tokio::test]
async fn starlette() -> anyhow::Result<()> {
    grid("starlette").await
}

#[tokio::test]
async fn what_no_framework_uses() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let files = place.apps.join("asgi/files");
    let app =
        Vassal::of_grid(&place, BARE).table(&format!("[sendfile]\n\"/files/\" = \"{}\"", files.display()));
    stack::with([app], async |stack| {
        let selection = Selection { groups: "bare", protocol: "plain", only: "" };
        let failed = failures(&site(stack, BARE)?.check(&place, selection).await?);
        ensure!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    })
    .await
}

/// Serves the app twice, at `/` and at a path, and runs all cells. Ordinary requests are sent over plain HTTP/1.1,
/// and once more over HTTP/2.
async fn grid(name: &str) -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let framework = Framework::named(name)?;
    let folder = tempfile::tempdir()?;
    let stopped = folder.path().join("stopped");
    let app = Vassal::of_grid(&place, framework);
    let mounted = app.clone().named(&format!("{name}-mounted")).domain(&framework.host());
    let mounted = mounted.key(&format!("path = \"{ROOT_PATH}\""));
    let app = app.also(&format!("untrusted.{name}.test"));
    let app = app.env("GRID_STOPPED", &stopped.display().to_string());
    stack::with([app, mounted], async |stack| {
        let site = site(stack, framework)?;
        let every = Selection { groups: GROUPS, protocol: "plain", only: "" };
        let mut failed = failures(&site.check(&place, every).await?);
        let again = Selection { groups: "http", protocol: "http2", only: "" };
        failed.extend(failures(&site.check(&place, again).await?).iter().map(|it| format!("HTTP/2: {it}")));
        ensure!(failed.is_empty(), "{} cells of {name} failed:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    })
    .await?;
    if framework.has_lifespan {
        let noted = async || Ok(fs::read_to_string(&stopped).ok().filter(|it| it == "stopped\n"));
        until("the app has noted its shutdown", noted).await.context("lifespan.shutdown")?;
    }
    Ok(())
}

fn site(stack: &Stack, framework: Framework) -> anyhow::Result<Site> {
    let https = Some((stack.https, stack.ca()?));
    Ok(Site { framework, http: stack.http, https, mounted: (stack.http, ROOT_PATH) })
}
