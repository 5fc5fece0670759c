//! Finds free ports for a stack.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::bail;

/// Below the kernel's range of ephemeral ports: a client could get one of those between the check and the
/// daemon's bind.
const RANGE: Range<u16> = 15_000..32_000;
const TRIES: usize = 1000;

/// Returns local addresses that nothing is listening on.
///
/// # Errors
/// If hardly any port is free.
pub fn free<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::new();
    for _ in 0..TRIES {
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE))));
        if let Ok(addresses) = <[SocketAddr; N]>::try_from(addresses(&held)?) {
            return Ok(addresses);
        }
    }
    bail!("find {N} free ports in {RANGE:?}")
}

fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}
