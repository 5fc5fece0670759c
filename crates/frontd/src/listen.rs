//! Accepts connections and hands each to a shard.

pub(crate) mod pulse;
pub(crate) mod shard;
pub(crate) mod sockets;
