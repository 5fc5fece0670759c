//! A connection that stops speaking HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the last response on a connection switches protocols: what the client sends from then on isn't HTTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrade(Arc<AtomicBool>);

impl Upgrade {
    /// Records that the next response switches protocols.
    pub(crate) fn accept(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the client's bytes aren't HTTP.
    pub(crate) fn is_accepted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
