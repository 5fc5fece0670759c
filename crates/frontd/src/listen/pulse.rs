//! Detects hung shards: each sends a heartbeat once a second while its thread makes progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, info};

/// Time between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A shard without a heartbeat for this long is hung.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// The last heartbeats of all shards.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// In milliseconds since `began`. `ENDED` for a shard that has drained.
    beats: Vec<AtomicU64>,
}

const ENDED: u64 = u64::MAX;

impl Pulse {
    pub(crate) fn new(shards: usize) -> Self {
        Self { began: Instant::now(), beats: (0..shards).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Shards that started this long ago and have sent no heartbeat.
    #[cfg(test)]
    pub(crate) fn silent_for(shards: usize, ago: Duration) -> Self {
        let pulse = Self::new(shards);
        Self { began: pulse.began.checked_sub(ago).unwrap(), ..pulse }
    }

    /// Sends the heartbeats of a shard while it is polled.
    pub(crate) async fn beat(&self, shard: usize) {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            self.set(shard, self.now());
        }
    }

    /// Records that the shard has ended cleanly.
    pub(crate) fn end(&self, shard: usize) {
        self.set(shard, ENDED);
    }

    /// The first hung shard, and the time since its last heartbeat.
    pub(crate) fn hung(&self) -> Option<(usize, Duration)> {
        let now = self.now();
        let since =
            |beat: &AtomicU64| Duration::from_millis(now.saturating_sub(beat.load(Ordering::Relaxed)));
        self.beats.iter().map(since).enumerate().find(|(_, it)| *it > HUNG_AFTER)
    }

    /// Logs when a shard hangs, and when all make progress again. Never returns.
    pub(crate) async fn watch(&self) {
        let mut hangs = false;
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            match self.hung() {
                Some((shard, since)) if !hangs => {
                    hangs = true;
                    error!(shard, seconds = since.as_secs(), "a shard hangs: its clients aren't served");
                }
                None if hangs => {
                    hangs = false;
                    info!("all shards are making progress again");
                }
                _ => {}
            }
        }
    }

    fn set(&self, shard: usize, beat: u64) {
        if let Some(last) = self.beats.get(shard) {
            last.store(beat, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(ENDED - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    /// A single-threaded runtime, like a shard's, that is really blocked.
    #[test]
    fn a_blocked_thread_counts_as_hung_until_it_continues() {
        let pulse = Arc::new(Pulse::silent_for(2, HUNG_AFTER * 2));
        assert!(pulse.hung().is_some_and(|(shard, since)| shard == 0 && since >= HUNG_AFTER * 2));
        pulse.end(1);
        let (hang, hung) = mpsc::channel::<()>();
        let shard = Arc::clone(&pulse);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let held_up = async {
                    let _released = hung.recv();
                    tokio::task::yield_now().await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    () = held_up => {}
                    () = shard.beat(0) => {}
                    () = async {
                        while shard.hung().is_some() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    } => {}
                }
            });
        });
        for _ in 0..100 {
            assert!(pulse.hung().is_some());
        }
        drop(hang);
        thread.join().unwrap();
        assert_eq!(pulse.hung(), None);
    }
}
