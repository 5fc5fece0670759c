//! The parts of a worker's spec that can change while it runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use api::worker::Spec;

/// As emperord said last.
#[derive(Debug, Default)]
pub(crate) struct LiveSpec {
    workers: AtomicU32,
    recycle_memory: AtomicU64,
}

impl LiveSpec {
    /// Takes over what can change.
    pub(crate) fn follow(&self, spec: &Spec) {
        self.workers.store(spec.workers, Ordering::Relaxed);
        self.recycle_memory.store(spec.recycle_memory, Ordering::Relaxed);
    }

    /// How many workers the app has.
    pub(crate) fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// Resident memory, in bytes, above which the worker measures how much of it is private; 0 is never.
    pub(crate) fn recycle_memory(&self) -> u64 {
        self.recycle_memory.load(Ordering::Relaxed)
    }
}
