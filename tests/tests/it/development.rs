//! A developer sees in browser and terminal why the app fails, but nobody else does.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BROKEN: &str = "import no_such_module_at_all\n";

const RAISES: &str = r#"
def application(environ, start_response):
    raise ValueError("<b>the secret</b>")
"#;

/// The raw response. The CA isn't known before the app serves.
async fn fetch(stack: &Stack) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(stack.http).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

async fn shown(stack: &Stack, status: &str, words: &[&str]) -> anyhow::Result<String> {
    until(&format!("a page with {words:?}"), async || {
        let page = fetch(stack).await.unwrap_or_default();
        let is_it =
            page.starts_with(&format!("HTTP/1.1 {status}")) && words.iter().all(|it| page.contains(it));
        Ok(is_it.then_some(page))
    })
    .await
}

#[tokio::test]
async fn up_app_shows_tracebacks_in_the_browser_and_each_failed_start_once_in_the_terminal()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("app.py"), BROKEN)?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), &["app.py"])?;
    let outcome = visit(&stack, folder.path()).await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

async fn visit(stack: &Stack, folder: &Path) -> anyhow::Result<()> {
    let cause = "No module named &#39;no_such_module_at_all&#39; in /";
    shown(stack, "503", &[cause, "import no_such_module_at_all", "app.py", "Request ID"]).await?;

    fs::write(folder.join("app.py"), RAISES)?;
    let raised = ["<h1>ValueError: &lt;b&gt;the secret&lt;/b&gt;</h1>", "raise ValueError(&quot;", "app.py"];
    let page = shown(stack, "500", &raised).await?;
    ensure!(!page.contains("<b>"), "what the app says is taken for HTML:\n{page}");
    let log = stack.log();
    ensure!(log.matches("\nModuleNotFoundError: ").count() == 1, "the traceback is not logged once:\n{log}");
    ensure!(log.contains("No module named 'no_such_module_at_all' in /"), "the cause is not logged:\n{log}");
    Ok(())
}

#[tokio::test]
async fn visitors_see_no_internals() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("raises.py"), RAISES)?;
    fs::write(folder.path().join("broken.py"), BROKEN)?;
    let vassal = |name| Vassal::new(name, folder.path(), name);
    stack::with([vassal("raises")], async |stack| {
        stack.put(&vassal("broken"))?;
        let reported = |app: &App| app.error().contains("No module named 'no_such_module_at_all' in /");
        stack.until("broken", "the status names the cause", reported).await?;
        for (name, status) in [("raises", 500), ("broken", 503)] {
            let page = stack.client(name, Protocol::Http2)?.get("/").await?.expect(status)?.text();
            for inside in ["secret", "no_such_module", "Traceback", ".py"] {
                ensure!(!page.contains(inside), "{name} shows {inside}:\n{page}");
            }
        }
        Ok(())
    })
    .await
}

/// What crashes the process of an app that is imported, and how that is told.
const CRASHES: [(&str, &str); 3] = [
    ("import ctypes\nctypes.string_at(0)\n", "a worker was killed by SIGSEGV before it was ready"),
    ("import os\nos._exit(5)\n", "a worker exited with status 5 before it was ready"),
    ("import os\nos.kill(os.getpid(), 9)\n", "a worker was killed by SIGKILL before it was ready"),
];

/// The lines of a run that ends by itself, since its app can't start: what it printed, and what it logged.
fn without_reloading(app: &str) -> anyhow::Result<(String, String)> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("app.py"), app)?;
    // Limits the run, in case it doesn't exit by itself.
    let mut up = Command::new("timeout");
    up.arg("60").arg(Place::of_tests()?.binaries.join("imperium"));
    up.args(["up", "app.py", "--no-reload", "--port", "0", "--https", "off"]).current_dir(folder.path());
    let data = folder.path().join("data");
    up.env("XDG_DATA_HOME", &data);
    let Output { status, stdout, stderr } = up.output()?;
    let (printed, log) = (String::from_utf8(stdout)?, String::from_utf8(stderr)?);
    ensure!(status.code() == Some(3), "it ended with {status}:\n{printed}{log}");
    ensure!(!printed.contains("http://"), "a URL of an app that does not serve:\n{printed}");
    ensure!(!data.exists(), "a local CA was made, though there is no HTTPS");
    Ok((printed, log))
}

#[test]
fn with_no_reload_up_exits_with_status_3_if_the_app_cannot_start() -> anyhow::Result<()> {
    let (_, log) = without_reloading(BROKEN)?;
    ensure!(log.matches("ModuleNotFoundError: ").count() == 1, "the traceback is not logged once:\n{log}");
    ensure!(
        log.contains("in <module>\n    import no_such_module_at_all"),
        "a frame of the app is missing:\n{log}"
    );
    ensure!(!log.contains("<frozen") && !log.contains("emperord"), "it tells what is of no use:\n{log}");
    let (_, log) = without_reloading("app = (\n")?;
    ensure!(log.matches("SyntaxError").count() == 1, "the error is not told once:\n{log}");
    for (app, told) in CRASHES {
        let (_, log) = without_reloading(app)?;
        ensure!(
            log.matches("The app can't start").count() == 1 && log.matches(told).count() == 1,
            "{told:?} expected once:\n{log}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_during_the_start_is_shown_until_a_save_fixes_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.py");
    fs::write(&file, CRASHES[1].0)?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), &["app.py"])?;
    let outcome = Box::pin(async {
        shown(&stack, "503", &[CRASHES[1].1]).await?;
        fs::write(&file, RAISES)?;
        shown(&stack, "500", &["ValueError"]).await?;
        stack.logged(&["reloaded in ", " ms, 2 workers"]).await?;
        let log = stack.log();
        let notice = log.lines().find(|it| it.starts_with("app.py changed: "));
        ensure!(
            notice.is_some_and(|it| !it.contains("app=")),
            "the change should be told in a plain line:\n{log}"
        );
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

#[tokio::test]
async fn the_stack_of_a_crash_is_shown_once_however_often_the_start_is_tried() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tries = folder.path().join("tries");
    let note = format!("open({:?}, 'a').write('x')\n", tries.display().to_string());
    fs::write(folder.path().join("app.py"), format!("{note}{}", CRASHES[0].0))?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), &["app.py"])?;
    let outcome = Box::pin(async {
        let page = shown(&stack, "503", &[CRASHES[0].1, "in string_at", "app.py"]).await?;
        ensure!(page.contains("Imperium tries again by itself"), "what happens next isn't told:\n{page}");
        let tried = async || Ok((fs::read(&tries)?.len() >= 4).then_some(()));
        until("the start is tried again", tried).await?;
        let log = stack.log();
        ensure!(log.matches("Fatal Python error: Segmentation fault").count() == 1, "once expected:\n{log}");
        ensure!(log.matches("The app can't start").count() == 1, "once expected:\n{log}");
        let printed = stack.printed();
        let lines: Vec<_> = printed.lines().skip(1).collect();
        let url = format!("Until the app starts, this error is shown at http://{}/", stack.http);
        ensure!(lines.len() == 3 && lines[0].starts_with(&url), "the URL is expected:\n{printed}");
        ensure!(lines[1].starts_with("Imperium tries again by itself"), "{printed}");
        ensure!(lines[2].starts_with("Press Ctrl-C to stop"), "{printed}");
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

#[tokio::test]
async fn the_stack_of_a_start_that_hangs_is_shown_once_however_often_it_is_tried() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tries = folder.path().join("tries");
    let note = format!("open({:?}, 'a').write('x')\n", tries.display().to_string());
    fs::write(folder.path().join("app.py"), format!("import time\n{note}time.sleep(1000)\n"))?;
    let stack = Stack::one_app(Place::of_tests()?, folder.path(), &["app.py", "--start-timeout", "2s"])?;
    let outcome = Box::pin(async {
        shown(&stack, "503", &["app.py", "raise the limit with `--start-timeout`"]).await?;
        let tried = async || Ok((fs::read(&tries)?.len() >= 4).then_some(()));
        until("the start is tried again", tried).await?;
        let log = stack.log();
        let frame = "app.py\", line 3 in <module>";
        ensure!(log.matches(frame).count() == 1, "the stack is expected once:\n{log}");
        ensure!(log.contains("it was still importing the app"), "the step is expected:\n{log}");
        ensure!(!log.contains("timeouts"), "a key of a file that nobody has written:\n{log}");
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}
