//! Chooses the shard that serves a new connection, and passes the connection to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tracing::warn;

use crate::limits::clients::Share;
use crate::observe::log_limit::LogLimit;
use crate::observe::metrics::Metrics;
use crate::visit::client::Transport;

/// A client connection on its way to the shard that will serve it.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    pub(super) guard: ConnectionGuard,
}

/// The sending side of a shard's queue of connections that other shards accepted.
#[derive(Debug, Clone)]
pub(super) struct Handoff {
    open: Arc<AtomicUsize>,
    pub(super) accepted: mpsc::UnboundedSender<Accepted>,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    /// The usage of the client's address.
    pub(super) share: Arc<Share>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// `limits.connections` is reached.
    Full,
    /// Few connections are left, and the client's address has more than half of all.
    Crowded,
}

impl Rejected {
    /// Decides from the number of open connections, those of the same address, and the limit. Until few are
    /// left, one address may have all of them, since it may be a proxy.
    pub(super) fn of(open: usize, of_address: usize, limit: usize) -> Option<Self> {
        if open >= limit {
            Some(Self::Full)
        } else if open >= limit - limit / 4 && of_address > limit / 2 {
            Some(Self::Crowded)
        } else {
            None
        }
    }

    pub(super) fn log(self, peer: SocketAddr) {
        static LOGGED: LogLimit = LogLimit::every(30);
        if let Some(withheld) = LOGGED.pass() {
            match self {
                Self::Full => warn!(%peer, withheld, "connection closed: limits.connections is reached"),
                Self::Crowded => warn!(
                    %peer,
                    withheld,
                    "connection closed: its address has more than half of limits.connections, and few are left"
                ),
            }
        }
    }
}

impl Handoff {
    /// The connections of its shard.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Accepted>) {
        let (accepted, receiver) = mpsc::unbounded_channel();
        (Self { open: Arc::default(), accepted }, receiver)
    }

    /// Counts a connection for this shard.
    pub(super) fn register(&self, metrics: &Arc<Metrics>, share: Arc<Share>) -> ConnectionGuard {
        share.connections.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        metrics.connections.inc();
        ConnectionGuard { open: Arc::clone(&self.open), metrics: Arc::clone(metrics), share }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.share.connections.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_few_connections_are_left_one_address_gets_at_most_half() {
        for (open, of_address, refused) in [
            (0, 0, None),
            (74, 74, None),
            (75, 50, None),
            (75, 51, Some(Rejected::Crowded)),
            (99, 0, None),
            (100, 0, Some(Rejected::Full)),
        ] {
            assert_eq!(Rejected::of(open, of_address, 100), refused, "{of_address} of {open}");
        }
        assert_eq!(Rejected::of(0, 0, 1), None);
    }
}
