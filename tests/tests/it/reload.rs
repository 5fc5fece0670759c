//! Apps that reload when their source files change.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

/// The plain callables in their own folder, and a Flask app whose page shows its template.
fn project(place: &Place) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(place.apps.join("wsgi"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "py") {
            fs::copy(&path, folder.path().join(path.file_name().unwrap_or_default()))?;
        }
    }
    fs::create_dir(folder.path().join("templates"))?;
    save(folder.path(), "templates/page.html", "first")?;
    save(folder.path(), "version.py", "VERSION = 'first'\n")?;
    let app = "from flask import Flask, render_template\nfrom version import VERSION\n\napp = Flask(__name__)\n\n\n\
               @app.get('/version')\ndef version():\n    return VERSION\n\n\n\
               @app.get('/page')\ndef page():\n    return render_template('page.html')\n";
    save(folder.path(), "site_flask.py", app)?;
    Ok(folder)
}

/// Saves like an editor: writes another file, and renames it.
fn save(folder: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let draft = folder.join(format!("{file}~"));
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, folder.join(file))?)
}

async fn answers(client: &Client, path: &str, text: &str) -> anyhow::Result<()> {
    until(&format!("{path} answers {text}"), async || {
        let answer = client.get(path).await?;
        ensure!(answer.status == 200, "{path} answers {}", answer.status);
        Ok((answer.text().trim() == text).then_some(()))
    })
    .await
}

#[tokio::test]
async fn no_request_is_lost_while_files_are_saved() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = project(&place)?;
    let watch = |it: Vassal| it.workers(2).table("[reload]\nwatch = true\n");
    let bare = watch(Vassal::new("wsgi", folder.path(), "edges:application"));
    let flask = watch(Vassal::new("flask", folder.path(), "site_flask:app").python(&place.venv));
    stack::with([bare, flask], async |stack| {
        stack.all_ready().await?;
        let client = stack.client("flask", Protocol::Http1)?;
        let load = Load::start_mixed(&stack.client("wsgi", Protocol::Http1)?, 4, Kind::Gets);
        load.flows(50).await?;
        // Of different lengths: within the same second, Python distinguishes versions of a file by size.
        for text in ["second", "the third", "the fourth one"] {
            save(folder.path(), "version.py", &format!("VERSION = '{text}'\n"))?;
            answers(&client, "/version", text).await?;
            save(folder.path(), "templates/page.html", text)?;
            answers(&client, "/page", text).await?;
            load.flows(50).await?;
        }
        // After a broken edit, the old version keeps serving, and the next save recovers.
        save(folder.path(), "version.py", "VERSION = (\n")?;
        stack.until("flask", "the mistake is reported", |it| it.error().contains("SyntaxError")).await?;
        answers(&client, "/version", "the fourth one").await?;
        save(folder.path(), "version.py", "VERSION = 'the last of them all'\n")?;
        answers(&client, "/version", "the last of them all").await?;
        load.flows(50).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn one_app_reloads_unless_disabled() -> anyhow::Result<()> {
    for (options, reloads) in [(&[][..], true), (&["--no-reload"][..], false)] {
        let place = Place::of_tests()?;
        let folder = project(&place)?;
        let stack =
            Stack::one_app(place, folder.path(), &[&["edges.py", "--workers", "1"], options].concat())?;
        let outcome = saved(&stack, folder.path(), reloads).await;
        if outcome.is_err() {
            stack.show_log();
        }
        outcome.and(stack.stop_with_clients().await)?;
    }
    Ok(())
}

async fn saved(stack: &Stack, folder: &Path, reloads: bool) -> anyhow::Result<()> {
    until("the CA is printed", async || Ok(stack.ca().ok())).await?;
    let client = Client::new(&stack.ca()?, "localhost", stack.http, Protocol::Plain)?;
    client.get("/hello").await?.expect(200)?;
    save(folder, "version.py", "VERSION = 'another'\n")?;
    match reloads {
        true => drop(stack.logged(&["version.py changed", "reloading"]).await?),
        false => {
            client.get("/hello").await?.expect(200)?;
            ensure!(!stack.log().contains("changed"), "{}", stack.log());
        }
    }
    Ok(())
}
