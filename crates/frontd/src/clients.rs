//! What the clients of each address hold, so that those of one leave something to the others.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use config::frontd::Limits;

use crate::quota::{Quota, Shares};

/// Bytes of responses that one connection may have in memory before its next request waits.
const CONNECTION_MEMORY: u64 = 8 << 20;

/// What there is for all clients, and who has how much of it.
#[derive(Debug)]
pub(crate) struct Clients {
    memory: Arc<Quota>,
    files: Arc<Quota>,
    spool: Arc<Quota>,
    part: Part,
    shares: Shares<IpAddr, Share>,
}

/// What one address may have.
#[derive(Debug, Clone, Copy)]
struct Part {
    memory: u64,
    files: u64,
    spool: u64,
}

/// What the clients of one address have.
#[derive(Debug)]
pub(crate) struct Share {
    /// Bytes of responses in memory.
    pub(crate) memory: Arc<Quota>,
    /// Open files: static ones, and those of the spool.
    pub(crate) files: Arc<Quota>,
    /// Bytes in the spool.
    pub(crate) spool: Arc<Quota>,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
}

impl Clients {
    /// Of `files` that may be open for clients, and of the limits of memory and spool. One address has half of the first
    /// two, so that clients behind one proxy are served.
    pub(crate) fn new(limits: &Limits, files: u64) -> Self {
        let part = Part {
            memory: limits.send_memory / 2,
            files: (files / 2).max(1),
            spool: limits.spool_per_client,
        };
        Self {
            memory: Quota::new(limits.send_memory),
            files: Quota::new(files),
            spool: Quota::new(limits.spool_bytes),
            part,
            shares: Shares::new(),
        }
    }

    /// That of an address.
    pub(crate) fn of(&self, address: IpAddr) -> Arc<Share> {
        self.shares.of(network(address), || {
            Arc::new(Share {
                memory: self.memory.part(self.part.memory),
                files: self.files.part(self.part.files),
                spool: self.spool.part(self.part.spool),
                connections: AtomicUsize::new(0),
            })
        })
    }
}

impl Share {
    /// What one connection may have in memory.
    pub(crate) fn connection(&self) -> Arc<Quota> {
        self.memory.part(CONNECTION_MEMORY)
    }
}

/// Whoever has one address of IPv6 has as many as there are in its network.
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
