//! Ends what a command does when the person who waits for it has had enough.

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

/// Whatever is done is dropped when a signal comes, and with it all that was started.
///
/// # Errors
/// When a signal came, which the error names.
pub async fn unless_interrupted<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        done = work => Ok(done),
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        _ = hang_up.recv() => bail!("the terminal was closed"),
    }
}
