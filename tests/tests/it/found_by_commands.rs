//! Commands without `--root` find the user's running `imperium up`.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::wait::until;

const APP: &str = "
import os

def app(environ, start_response):
    print('environment', sorted(name for name in os.environ if name.startswith('IMPERIUM_LOG')))
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

const LIMITED: &str =
    "domains = ['a.localhost']\napp = 'app.py'\ndirectory = '.'\n[limits]\nmemory = '500 MB'\n";

fn folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("app.py"), APP)?;
    Ok(folder)
}

fn start(folder: &Path, runtime: &Path) -> anyhow::Result<Stack> {
    Stack::one_app_with(Place::of_tests()?, folder, &["app.py"], &[("XDG_RUNTIME_DIR", runtime)])
}

async fn serves(stack: &Stack) -> anyhow::Result<Client> {
    let ca = until("it says where the app is", async || Ok(stack.ca().ok())).await?;
    Client::new(&ca, "localhost", stack.http, Protocol::Plain)
}

fn imperium(runtime: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(Place::of_tests()?.binaries.join("imperium"));
    command.args(arguments).current_dir(folder).env("XDG_RUNTIME_DIR", runtime).env_remove("IMPERIUM_ROOT");
    Ok(command.output()?)
}

/// The output of a command.
fn output_of(runtime: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = imperium(runtime, folder, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn status_reload_and_logs_find_the_stack_of_their_folder() -> anyhow::Result<()> {
    let (runtime, here, elsewhere) = (tempfile::tempdir()?, folder()?, tempfile::tempdir()?);
    let (runtime, here) = (runtime.path(), here.path());
    let stack = start(here, runtime)?;
    let outcome = Box::pin(async {
        serves(&stack).await?.get("/page").await?.expect(200)?;
        for folder in [here, elsewhere.path()] {
            let status = output_of(runtime, folder, &["status"])?;
            ensure!(status.contains("app-1"), "{status}");
        }
        let logs = async || {
            let logs = output_of(runtime, here, &["logs"])?;
            Ok(Some(logs).filter(|it| it.contains("GET /page 200 ") && it.contains("environment [")))
        };
        let logs = until("the request and what the app prints are in the log", logs).await?;
        ensure!(logs.contains("environment []"), "the app sees what is meant for the daemons: {logs}");
        let checked = output_of(runtime, here, &["check"])?;
        let mentions = ["which `imperium up` runs\n", "2 files checked, all good\n"];
        ensure!(mentions.iter().all(|it| checked.contains(it)), "{checked}");
        // Named files, and systemd's check of a daemon's file, don't depend on what this user runs.
        std::fs::write(here.join("limited.toml"), LIMITED)?;
        for arguments in [["--only", "frontd"].as_slice(), &["limited.toml"]] {
            let arguments = [&["check"], arguments].concat();
            let checked = output_of(runtime, here, &arguments)?;
            let alone = output_of(elsewhere.path(), here, &arguments)?;
            ensure!(checked == alone, "{arguments:?} depends on what runs: {checked}\ninstead of: {alone}");
        }
        let unknown = imperium(runtime, here, &["logs", "nosuch"])?;
        let told = String::from_utf8(unknown.stderr)?;
        ensure!(
            !unknown.status.success() && unknown.stdout.is_empty(),
            "an app that doesn't exist has a log"
        );
        ensure!(told.contains("there is no app `nosuch`: choose one of app"), "{told}");
        let reloaded = output_of(runtime, here, &["reload"])?;
        ensure!(reloaded == "app: 2 workers ready\n", "{reloaded}");
        ensure!(output_of(runtime, here, &["completion", "--apps"])? == "app\n", "the app is not offered");

        let other_folder = folder()?;
        let other = start(other_folder.path(), runtime)?;
        let both = Box::pin(async {
            serves(&other).await?.get("/other").await?.expect(200)?;
            let Output { status, stderr, .. } = imperium(runtime, elsewhere.path(), &["status"])?;
            let error = String::from_utf8(stderr)?;
            ensure!(!status.success(), "one of two was chosen");
            for words in [
                "choose one of the 2",
                &here.display().to_string(),
                &other_folder.path().display().to_string(),
            ] {
                ensure!(error.contains(words), "{words:?} is expected in: {error}");
            }
            let logs = async || {
                let logs = output_of(runtime, other_folder.path(), &["logs"])?;
                Ok(Some(logs).filter(|it| it.contains("GET /other")))
            };
            let logs = until("the request is in the log of the other", logs).await?;
            ensure!(!logs.contains("GET /page"), "{logs}");
            Ok(())
        })
        .await;
        both.and(other.stop_with_clients().await)
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)?;
    let left = std::fs::read_dir(runtime.join("imperium"))?.count();
    ensure!(left == 0, "{left} entries are left");
    Ok(())
}
