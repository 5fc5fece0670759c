//! What an app can learn about its worker, and how its output is logged.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

#[tokio::test]
async fn the_module_reports_app_worker_and_request() -> anyhow::Result<()> {
    for keys in ["", "threads = 4", "preload = true"] {
        answers(keys, async |stack| {
            let client = stack.client("wsgi", Protocol::Http2)?;
            let report = client.get("/inside").await?.expect(200)?.json()?;
            for (name, expected) in [
                ("app_name", json!("wsgi")),
                ("worker_name", json!("wsgi-1")),
                ("worker_id", json!(1)),
                ("request_id", report["header"].clone()),
                ("elsewhere", Value::Null),
                ("forked", json!(["wsgi-1"])),
                ("timeout", json!(["RequestTimeout", "BaseException", "object"])),
            ] {
                ensure!(report[name] == expected, "{keys}: {name} is {}, not {expected}", report[name]);
            }
            ensure!(report["request_id"].as_str().is_some_and(|it| it.len() == 16), "{report}");
            let record = stack.root().join("closed");
            let path = format!("/same-request?record={}", record.display());
            let same = client.get(&path).await?.expect(200)?;
            ensure!(same.text() == "True\n" && same.header("x-same") == "True", "{same:?}");
            let closed = async || Ok(fs::read_to_string(&record).ok().filter(|it| !it.is_empty()));
            ensure!(until("the body is closed", closed).await? == "True\n", "another request at its end");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_apps_own_module_named_imperium_takes_precedence() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("imperium"))?;
    fs::write(folder.path().join("imperium/__init__.py"), "MINE = b'mine'\n")?;
    let app = "import imperium\n\ndef application(environ, start_response):\n    \
               start_response('200 OK', [])\n    return [imperium.MINE]\n";
    fs::write(folder.path().join("app.py"), app)?;
    stack::with([Vassal::new("own", folder.path(), "app:application")], async |stack| {
        let text = stack.client("own", Protocol::Http1)?.get("/").await?.expect(200)?.text();
        ensure!(text == "mine", "{text}");
        Ok(())
    })
    .await
}

/// The package as installed outside of a worker.
#[test]
fn the_module_works_outside_of_a_worker() -> anyhow::Result<()> {
    let program = "import imperium as it\n\
                   print(it.app_name(), it.worker_name(), it.worker_id(), it.request_id())\n\
                   print(it.on_fork(print) is print, issubclass(it.RequestTimeout, BaseException))";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/pyworker/python");
    let ran = Command::new("python3").args(["-Wd", "-c", program]).env("PYTHONPATH", path).output()?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let output = String::from_utf8(ran.stdout)?;
    ensure!(output == "None None None None\nTrue True\n", "{output:?}");
    Ok(())
}

#[tokio::test]
async fn printed_lines_and_tracebacks_are_events_of_the_worker() -> anyhow::Result<()> {
    answers("", async |stack| {
        stack.client("wsgi", Protocol::Http2)?.get("/printed").await?.expect(200)?;
        stack.logged(&["by wsgi.errors"]).await?;
        let log = stack.log();
        let events = events(&log);
        let of = |words: &[&str]| {
            let found: Vec<_> =
                events.iter().filter(|event| words.iter().all(|word| event.contains(word))).collect();
            ensure!(found.len() == 1, "one event with {words:?} expected, not {found:#?}");
            Ok(found[0].as_str())
        };
        let chain = ["ValueError: first", "During handling of the above", "KeyError: 'second'"];
        let logged = of(&[&["by logging"][..], &chain].concat())?;
        ensure!(logged.lines().count() > 10, "{logged}");
        let printed: Vec<_> = events.iter().filter(|it| it.contains(": Traceback (most recent")).collect();
        ensure!(printed.len() == 1 && chain.iter().all(|it| printed[0].contains(it)), "{printed:#?}");
        of(&["Exception in thread calculator", "Traceback", "ZeroDivisionError: division by zero"])?;
        ensure!(of(&["one line of pieces"])?.ends_with(" INFO wsgi-1: one line of pieces"), "{log}");
        ensure!(of(&["two\nlines"])?.contains(" wsgi-1: two\nlines"), "{log}");
        ensure!(of(&["by wsgi.errors"])?.contains(" wsgi-1: by wsgi.errors"), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_lines_of_many_threads_do_not_mix() -> anyhow::Result<()> {
    answers("", async |stack| {
        stack.client("wsgi", Protocol::Http2)?.get("/printed-by-many").await?.expect(200)?;
        stack.logged(&["thread-7-line-49-end"]).await?;
        let log = stack.log();
        for number in 0..8 {
            for line in 0..50 {
                let text = format!("thread-{number}-line-{line}-end");
                let count = log.lines().filter(|it| it.ends_with(&text)).count();
                ensure!(count == 1, "{text} is there {count} times");
            }
        }
        let of_threads = log.lines().filter(|it| it.contains("thread-")).count();
        ensure!(of_threads == 400, "{of_threads} lines of threads");
        Ok(())
    })
    .await
}

/// Splits the log into events: a line that starts with a time, and the following lines that don't.
fn events(log: &str) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    for line in log.lines() {
        let begins = line.get(..11).is_some_and(|it| it.ends_with('T') && it.starts_with("20"));
        match events.last_mut().filter(|_| !begins) {
            Some(event) => {
                event.push('\n');
                event.push_str(line);
            }
            None => events.push(line.to_owned()),
        }
    }
    events
}

async fn answers(keys: &str, test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?).app("answers:application").key(keys);
    stack::with([vassal], async |stack| test(stack).await).await.context(keys.to_owned())
}
