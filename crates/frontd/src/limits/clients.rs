//! Limits what the clients of one address can hold, so that they can't starve the others.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use config::frontd::Limits;

use crate::limits::quota::{Quota, Shares};

/// Bytes of responses that one connection may hold in memory before its next request has to wait.
const CONNECTION_MEMORY: u64 = 8 << 20;

/// The part of `limits.send_memory` that WebSockets may keep to compress messages, in addition.
const CONTEXTS_DIVISOR: u64 = 8;

/// The limits over all clients, and the usage of each address.
#[derive(Debug)]
pub(crate) struct Clients {
    memory: Arc<Quota>,
    files: Arc<Quota>,
    spool: Arc<Quota>,
    contexts: Arc<Quota>,
    part: AddressLimits,
    shares: Shares<IpAddr, Share>,
}

/// The limits of one address.
#[derive(Debug, Clone, Copy)]
struct AddressLimits {
    memory: u64,
    files: u64,
    spool: u64,
    contexts: u64,
}

/// What the clients of one address hold.
#[derive(Debug)]
pub(crate) struct Share {
    /// Bytes of responses in memory.
    pub(crate) memory: Arc<Quota>,
    /// Open files: static files and spool files.
    pub(crate) files: Arc<Quota>,
    /// Bytes in the spool.
    pub(crate) spool: Arc<Quota>,
    /// Bytes of WebSockets' compression contexts.
    pub(crate) contexts: Arc<Quota>,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
}

impl Clients {
    /// Creates the limits from `limits` and the number of `files` that may be open for clients. One address
    /// gets at most half of the memory and of the files, so clients that share a proxy still work.
    pub(crate) fn new(limits: &Limits, files: u64) -> Self {
        let part = AddressLimits {
            memory: limits.send_memory / 2,
            files: (files / 2).max(1),
            spool: limits.spool_per_client,
            contexts: limits.send_memory / CONTEXTS_DIVISOR / 2,
        };
        Self {
            memory: Quota::new(limits.send_memory),
            files: Quota::new(files),
            spool: Quota::new(limits.spool_bytes),
            contexts: Quota::new(limits.send_memory / CONTEXTS_DIVISOR),
            part,
            shares: Shares::new(),
        }
    }

    /// The usage of one address.
    pub(crate) fn of(&self, address: IpAddr) -> Arc<Share> {
        self.shares.of(network(address), || {
            Arc::new(Share {
                memory: self.memory.part(self.part.memory),
                files: self.files.part(self.part.files),
                spool: self.spool.part(self.part.spool),
                contexts: self.contexts.part(self.part.contexts),
                connections: AtomicUsize::new(0),
            })
        })
    }
}

impl Share {
    /// Creates the memory quota of one connection.
    pub(crate) fn connection(&self) -> Arc<Quota> {
        self.memory.part(CONNECTION_MEMORY)
    }
}

/// Truncates an IPv6 address to its /64 network: whoever has one address of it can use all of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let clients = Clients::new(&Limits::default(), 100);
        let of = |it: &str| clients.of(it.parse().unwrap());
        let first = of("2001:db8::1");
        assert!(Arc::ptr_eq(&first, &of("2001:db8::ffff:1")));
        assert!(!Arc::ptr_eq(&first, &of("2001:db8:0:1::1")));
        let first = of("192.0.2.1");
        assert!(Arc::ptr_eq(&first, &of("::ffff:192.0.2.1")));
        assert!(!Arc::ptr_eq(&first, &of("192.0.2.2")));
    }
}
