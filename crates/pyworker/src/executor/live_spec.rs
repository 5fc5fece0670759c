//! The parts of a worker's spec that can change while it runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use api::worker::Spec;

/// The values that emperord sent last.
#[derive(Debug, Default)]
pub(crate) struct LiveSpec {
    workers: AtomicU32,
    recycle_memory: AtomicU64,
}

impl LiveSpec {
    /// Applies what can change.
    pub(crate) fn follow(&self, spec: &Spec) {
        self.workers.store(spec.workers, Ordering::Relaxed);
        self.recycle_memory.store(spec.recycle_memory, Ordering::Relaxed);
    }

    pub(crate) fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// The resident memory in bytes above which the worker measures how much of it is private; 0 means never.
    pub(crate) fn recycle_memory(&self) -> u64 {
        self.recycle_memory.load(Ordering::Relaxed)
    }
}
