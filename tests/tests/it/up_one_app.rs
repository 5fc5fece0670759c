//! The development server `imperium up app.py`: its output, and what it refuses before anything starts.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::wait::until;

const APP: &str = "
import logging

def app(environ, start_response):
    print('printed by the app')
    logging.warning('logged by the app')
    if environ['PATH_INFO'] == '/raises':
        raise RuntimeError('on purpose')
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

/// A folder with an `app.py`.
fn folder(text: &str) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("app.py"), text)?;
    Ok(folder)
}

/// Runs a story with a stack of one app, and prints the log if it fails.
async fn with(
    text: &str,
    arguments: &[&str],
    test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = folder(text)?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), arguments)?;
    let outcome = Box::pin(test(&stack)).await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

/// Waits until it prints that the app serves.
async fn serves(stack: &Stack) -> anyhow::Result<Client> {
    let ca = until("it says where the app is", async || Ok(stack.ca().ok())).await?;
    Client::new(&ca, "localhost", stack.http, Protocol::Plain)
}

#[tokio::test]
async fn up_prints_three_lines_then_requests_and_the_apps_output() -> anyhow::Result<()> {
    with(APP, &["app.py"], async |stack| {
        let client = serves(stack).await?;
        let printed = stack.printed();
        let lines: Vec<_> = printed.lines().collect();
        ensure!(lines.len() == 3, "three lines expected: {printed}");
        ensure!(lines[0].starts_with("Imperium ") && lines[0].contains(" runs app.py with "), "{printed}");
        ensure!(
            lines[1].starts_with(&format!("Serving http://{}/ and https://localhost:", stack.http)),
            "{printed}"
        );
        ensure!(lines[2].contains("Press Ctrl-C to stop"), "{printed}");

        client.get("/page?a=b").await?.expect(200)?;
        client.get("/raises").await?.expect(500)?;
        let line = stack.logged(&["GET /page?a=b 200 ", " ms app-"]).await?;
        ensure!(line.starts_with("GET "), "{line}");
        stack.logged(&["GET /raises 500 "]).await?;
        stack.logged(&["RuntimeError: on purpose"]).await?;
        let log = stack.log();
        for line in
            ["printed by the app", "WARNING:root:logged by the app", "Traceback (most recent call last):"]
        {
            ensure!(log.lines().any(|it| it == line), "the line {line:?} is expected in:\n{log}");
        }
        ensure!(
            !log.contains("INFO") && !log.contains('\u{1b}'),
            "neither INFO nor colors are expected:\n{log}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn requests_are_not_printed_if_disabled() -> anyhow::Result<()> {
    with(APP, &["app.py", "--no-access-log"], async |stack| {
        serves(stack).await?.get("/page").await?.expect(200)?;
        stack.logged(&["printed by the app"]).await?;
        ensure!(!stack.log().contains("GET /page"), "a request was shown");
        Ok(())
    })
    .await
}

fn up(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let place = Place::of_tests()?;
    let mut command = Command::new(place.binaries.join("imperium"));
    Ok(command.arg("up").args(arguments).current_dir(folder).output()?)
}

/// The error if it doesn't start anything.
fn refused(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = up(folder, arguments)?;
    ensure!(!status.success() && stdout.is_empty(), "{arguments:?} passes");
    Ok(String::from_utf8(stderr)?)
}

#[test]
fn options_are_validated_before_anything_starts() -> anyhow::Result<()> {
    let folder = folder(APP)?;
    let folder = folder.path();
    for (arguments, expected) in [
        (&["app.py", "--workers", "0"][..], &["--workers <N>", "a number from 1 to 1000"][..]),
        (&["app.py", "--threads", "300"], &["--threads <N>", "a number from 1 to 256"]),
        (
            &["app.py", "--static", "/x/=no-such"],
            &["--static </PREFIX/=DIR>", "there is no folder `no-such`"],
        ),
        (&["app.py", "--static", "x=."], &["--static </PREFIX/=DIR>", "must begin and end with `/`"]),
        (&["app.py", "--http", "localhost"], &["--http <ADDRESS>", "HOST:PORT"]),
        (&["app.py", "--port", "70000"], &["--port <N>", "65535"]),
        (&["app.py", "--port", "1", "--http", ":1"], &["cannot be used with"]),
        (&["--root", "site", "--workers", "5"], &["cannot be used with", "--root"]),
        (&["--root", "site", "--threads", "5"], &["cannot be used with", "--root"]),
        (&["--root", "site", "--static", "/a/=."], &["cannot be used with", "--root"]),
        (&["--root", "site", "--env-file", ".env"], &["cannot be used with", "--root"]),
        (&["--root", "site", "--no-reload"], &["cannot be used with", "--root"]),
        (&["--root", "site", "--no-access-log"], &["cannot be used with", "--root"]),
        (&["app.py", "--http", "off", "--https", "off"], &["HTTP and HTTPS are both off"]),
        (&["app.py", "--port", "abc"], &["--port <N>", "`abc` isn't a port: choose one from 0 to 65535"]),
        (&["app.py", "--start-timeout", "soon"], &["--start-timeout <TIME>", "must be a duration"]),
        (&["app.py", "--host", "0.0.0.0"], &["tip: listen elsewhere with `--port 9000`, or with `--http "]),
        (&["app.py", "--reload"], &["tip: the app is reloaded by default"]),
        (&["--root", "no/such/site"], &["there is no folder", "not those above it"]),
        (&["--root", "~/site"], &["--root <DIR>", "write \"$HOME/site\""]),
        (&["~/app.py"], &["there is no such file", "write \"$HOME/app.py\""]),
        (&["none.py"], &["there is no such file"]),
        (&[], &["nothing to run"]),
    ] {
        let error = refused(folder, arguments)?;
        for words in expected {
            ensure!(error.contains(words), "{arguments:?} should say {words:?}, and says: {error}");
        }
        ensure!(!error.contains(".toml"), "{arguments:?} names a file that nobody has written: {error}");
    }
    Ok(())
}

#[test]
fn the_process_that_uses_the_port_is_named() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let error = refused(folder(APP)?.path(), &["app.py", "--port", &port]).context("up")?;
    let owner = format!("(pid {})", std::process::id());
    for words in ["the port is taken by", &owner, "choose another port: --port "] {
        ensure!(error.contains(words), "{words:?} is expected in: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn django_serves_its_admin_styles_in_development() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let (venv, folder) = (place.venv.clone(), place.apps.join("django"));
    for (debug, status) in [("1", 200), ("0", 404)] {
        let environment = [("VIRTUAL_ENV", venv.as_path()), ("DJANGO_DEBUG", Path::new(debug))];
        let stack = Stack::one_app_with(place.clone(), &folder, &["site_django.wsgi"], &environment)?;
        let outcome = Box::pin(async {
            let page = serves(&stack).await?.get("/static/admin/css/base.css").await?.expect(status)?;
            ensure!(status != 200 || page.header("content-type").starts_with("text/css"), "no CSS");
            Ok(())
        })
        .await;
        if outcome.is_err() {
            stack.show_log();
        }
        outcome.and(stack.stop_with_clients().await)?;
    }
    Ok(())
}

/// A project with Channels, whose router has Django's app for HTTP.
const WITH_CHANNELS: &str = "
from django.conf import settings
settings.configure(
    DEBUG=True, SECRET_KEY='secret', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__, STATIC_URL='static/',
    INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'django.contrib.admin', 'django.contrib.staticfiles'],
)
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
urlpatterns = []
application = ProtocolTypeRouter({'http': get_asgi_application()})
";

#[tokio::test]
async fn django_with_channels_serves_its_admin_styles_in_development() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let venv = place.venv.clone();
    let folder = folder(WITH_CHANNELS)?;
    let environment = [("VIRTUAL_ENV", venv.as_path())];
    let stack = Stack::one_app_with(place, folder.path(), &["app.py"], &environment)?;
    let outcome = Box::pin(async {
        let page = serves(&stack).await?.get("/static/admin/css/base.css").await?.expect(200)?;
        ensure!(page.header("content-type").starts_with("text/css"), "no CSS");
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

#[tokio::test]
async fn a_changed_env_file_starts_new_workers_and_its_values_stay_secret() -> anyhow::Result<()> {
    const TELLS: &str = "
import os

def app(environ, start_response):
    start_response('200 OK', [])
    return [os.environ['TOLD'].encode()]
";
    let folder = folder(TELLS)?;
    let file = folder.path().join("secrets.env");
    std::fs::write(&file, "TOLD='first secret'")?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), &["app.py", "--env-file", "secrets.env"])?;
    let outcome = Box::pin(async {
        let client = serves(&stack).await?;
        ensure!(client.get("/").await?.text() == "first secret", "the file was not read");
        // An invalid file is reported without its text, and the developer sees the error instead of the app.
        std::fs::write(&file, "TOLD='second secret")?;
        stack.logged(&["has no closing quote"]).await?;
        ensure!(stack.log().matches("has no closing quote").count() == 1, "the error is logged twice");
        ensure!(
            !client.get("/").await?.text().contains("second"),
            "a broken file is used, or its text is shown"
        );
        std::fs::write(&file, "TOLD='third secret'")?;
        let changed = async || Ok((client.get("/").await?.text() == "third secret").then_some(()));
        until("the changed file is in use", changed).await?;
        ensure!(
            !stack.log().contains("secret'") && !stack.log().contains("second secret"),
            "a value is in the log"
        );
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}
