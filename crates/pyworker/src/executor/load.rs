//! The load of an event loop, for the status of the worker.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What the executor counts, and the attachment reports every second.
#[derive(Debug, Default)]
pub(crate) struct LoopLoad {
    messages: AtomicU64,
    lag_milliseconds: AtomicU32,
    tasks: AtomicU32,
    wants_tasks: AtomicBool,
}

impl LoopLoad {
    /// A WebSocket message was received or sent.
    pub(crate) fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of those messages.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// The loop hasn't responded for that long.
    pub(crate) fn note_lag(&self, lag: Duration) {
        let milliseconds = u32::try_from(lag.as_millis()).unwrap_or(u32::MAX);
        self.lag_milliseconds.fetch_max(milliseconds, Ordering::Relaxed);
    }

    /// The longest time that the loop didn't respond since this was called.
    pub(crate) fn take_lag(&self) -> u32 {
        self.lag_milliseconds.swap(0, Ordering::Relaxed)
    }

    /// The number of tasks, as of the last turn that was asked for it. Asks the next one.
    pub(crate) fn tasks(&self) -> u32 {
        self.wants_tasks.store(true, Ordering::Relaxed);
        self.tasks.load(Ordering::Relaxed)
    }

    /// Whether the number of tasks is to be set.
    pub(crate) fn wants_tasks(&self) -> bool {
        self.wants_tasks.load(Ordering::Relaxed) && self.wants_tasks.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_tasks(&self, tasks: u32) {
        self.tasks.store(tasks, Ordering::Relaxed);
    }
}
