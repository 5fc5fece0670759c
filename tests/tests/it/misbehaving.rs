//! Serves an app that violates ASGI, and reads what it has recorded.

use std::fs;
use std::path::Path;

use tests::client::{Client, Protocol};
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

/// Serves `app`, whose host is `bad`, with these lines in `[timeouts]`.
pub(crate) async fn serve(
    app: Vassal,
    timeouts: &str,
    test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stack::with([app.table(&format!("[timeouts]\nstop = \"2s\"\n{timeouts}"))], async |stack| {
        let client = stack.client("bad", Protocol::Http1)?;
        test(stack, &client).await
    })
    .await
}

/// Waits until the app has recorded a line that begins with `text`, and returns the whole record.
pub(crate) async fn recorded(record: &Path, text: &str) -> anyhow::Result<String> {
    until(&format!("the app records {text:?} in {}", record.display()), async || {
        let all = fs::read_to_string(record).unwrap_or_default();
        Ok(all.lines().any(|line| line.starts_with(text)).then_some(all))
    })
    .await
}
