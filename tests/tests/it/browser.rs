//! The demo's FastAPI app in a headless Chromium: its page, its events and its chat.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tokio::process::Command;

#[tokio::test]
async fn fastapi_page_and_events() -> anyhow::Result<()> {
    skip::needs_program!("chromium");
    let page = async |stack: &Stack, url: &str| {
        let steps = [
            format!("page open {url}/"),
            "page wait document.querySelector('h1').textContent == 'FastAPI on Imperium'".to_owned(),
            "page wait getComputedStyle(document.querySelector('main')).borderRadius == '8px'".to_owned(),
            "page run events = 0; new EventSource('/clock?pause=0.01').onmessage = () => { events++ }"
                .to_owned(),
            "page wait events >= 10".to_owned(),
        ];
        chromium(&stack.place, &steps).await
    };
    stack::with([Vassal::fastapi(&Place::of_tests()?)], async |stack| {
        for url in urls(stack) {
            page(stack, &url).await.with_context(|| url)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn chat_between_two_pages() -> anyhow::Result<()> {
    skip::needs_program!("chromium");
    let chat = async |stack: &Stack, url: &str| {
        let connected = "document.querySelector('#status').textContent == 'connected'";
        let has = |text: &str| format!("document.querySelector('#messages').innerText.includes('{text}')");
        let say = |text: &str| {
            format!(
                "document.querySelector('input').value = '{text}'; document.querySelector('form').requestSubmit()"
            )
        };
        let steps = [
            format!("ann open {url}/"),
            format!("bob open {url}/"),
            format!("ann wait {connected}"),
            format!("bob wait {connected}"),
            format!("ann run {}", say("hello, Bob")),
            format!("bob wait {}", has("hello, Bob")),
            format!("bob run {}", say("hello, Ann")),
            format!("ann wait {}", has("hello, Ann")),
        ];
        chromium(&stack.place, &steps).await
    };
    stack::with([Vassal::fastapi(&Place::of_tests()?)], async |stack| {
        for url in urls(stack) {
            chat(stack, &url).await.with_context(|| url)?;
        }
        Ok(())
    })
    .await
}

/// Over HTTP/1.1, and over HTTP/2 with TLS.
fn urls(stack: &Stack) -> [String; 2] {
    let host = "fastapi.localhost";
    [format!("http://{host}:{}", stack.http.port()), format!("https://{host}:{}", stack.https.port())]
}

/// Runs the steps of `tests/grid/browser.py`.
async fn chromium(place: &Place, steps: &[String]) -> anyhow::Result<()> {
    let mut python = Command::new(place.venv.join("bin/python"));
    python.args(["-m", "grid.browser", "chromium"]).args(steps);
    python.env("PYTHONPATH", place.apps.join("..")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.stdin(Stdio::null()).kill_on_drop(true).output().await.context("run Chromium")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
