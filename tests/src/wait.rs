//! Waits for states, never for times.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Much longer than anything takes that works.
pub const TIMEOUT: Duration = Duration::from_secs(40);
const GAP: Duration = Duration::from_millis(20);

/// Calls `look` until it returns a value.
///
/// # Errors
/// The error of `look`. After `TIMEOUT`, an error that names `what`.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    within(TIMEOUT, what, look).await
}

/// Like `until`, with another limit, for tests that check a promised duration.
///
/// # Errors
/// Same as `until`.
pub async fn within<T>(
    timeout: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {timeout:?} in vain until {what}");
        }
        tokio::time::sleep(GAP).await;
    }
}
