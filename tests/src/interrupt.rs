//! Cancels a command's work when the user interrupts it.

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work`, and drops it on a signal, together with everything that it has started.
///
/// # Errors
/// If a signal arrived. The error names it.
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
