//! Listens on the sockets, and hands each connection to a shard.

mod handoff;
pub(crate) mod pulse;
pub(crate) mod shard;
pub(crate) mod sockets;

use std::sync::atomic::AtomicUsize;

use self::pulse::Pulse;
use crate::connection::Shared;

/// The front server as a whole, as all shards see it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) shared: Shared,
    /// How many client connections may be open.
    pub(crate) connections: AtomicUsize,
    pub(crate) pulse: Pulse,
}

#[cfg(test)]
impl Front {
    /// A front server with one shard.
    pub(crate) fn of(shared: Shared) -> Self {
        Self { shared, connections: 1000.into(), pulse: Pulse::new(1) }
    }
}
