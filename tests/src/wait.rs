//! Waiting for a state, never for a time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Far more than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(40);
const GAP: Duration = Duration::from_millis(20);

/// Asks again and again until `look` finds what is waited for.
///
/// # Errors
/// What `look` fails with, or, when patience ends, `what` was waited for.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    within(PATIENCE, what, look).await
}

/// As `until`, with a patience of its own, where how long it takes is what is promised.
///
/// # Errors
/// As `until`.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {patience:?} in vain until {what}");
        }
        tokio::time::sleep(GAP).await;
    }
}
