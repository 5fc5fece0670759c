//! What all requests on one client connection have in common.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use api::runner::Connection;

use super::authority::Authority;
use super::early_hints::EarlyHints;
use super::refusal::Refusal;
use super::upgrade::Upgrade;
use crate::body::cut::ConnectionCut;
use crate::limits::clients::Share;
use crate::limits::quota::Quota;

/// The downstream end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: IpAddr,
    local: IpAddr,
    connection: Connection,
    early_hints: EarlyHints,
    connection_cut: ConnectionCut,
    refusal: Refusal,
    share: Arc<Share>,
    memory: Arc<Quota>,
    backlog: Backlog,
    first_authority: OnceLock<Authority>,
    upgrade: Upgrade,
    guard: Option<Guard>,
}

/// Something that lives as long as the connection, such as a counter of connections.
pub(crate) type Guard = Arc<dyn Any + Send + Sync>;

/// Whether a connection uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// Whether the socket of a connection is full, shared with its streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog(Arc<AtomicBool>);

impl Backlog {
    pub(crate) fn set(&self, is_full: bool) {
        self.0.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Client {
    pub(crate) fn new(
        peer: SocketAddr,
        local: IpAddr,
        transport: Transport,
        share: Arc<Share>,
        refusal: Refusal,
    ) -> Self {
        // On a dual-stack socket, an IPv4 client has a mapped address.
        let address = peer.ip().to_canonical();
        let tls = transport == Transport::Tls;
        Self {
            address,
            local: local.to_canonical(),
            connection: Connection {
                remote_address: address.to_string().into(),
                remote_port: peer.port().into(),
                tls,
            },
            early_hints: EarlyHints::default(),
            connection_cut: ConnectionCut::default(),
            refusal,
            memory: share.connection(),
            share,
            backlog: Backlog::default(),
            first_authority: OnceLock::new(),
            upgrade: Upgrade::default(),
            guard: None,
        }
    }

    /// Keeps `guard` until the connection ends.
    pub(crate) fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// What is to be kept until the connection ends.
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.guard.clone()
    }

    /// Whether the connection stops speaking HTTP/1.1.
    pub(crate) fn upgrade(&self) -> &Upgrade {
        &self.upgrade
    }

    /// Why the client may send nothing more over HTTP/1.1, if that is so.
    pub(crate) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// What all clients of this address hold together.
    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Bytes of responses in memory that wait for this connection.
    pub(crate) fn memory(&self) -> &Arc<Quota> {
        &self.memory
    }

    /// Whether the connection's send buffer is full.
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The authority of the first request.
    pub(crate) fn first_authority(&self) -> &OnceLock<Authority> {
        &self.first_authority
    }

    /// The client's address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What is sent before the final response, over HTTP/1.1.
    pub(crate) fn early_hints(&self) -> &EarlyHints {
        &self.early_hints
    }

    /// Ends the connection in the middle of a response, over HTTP/1.1.
    pub(crate) fn connection_cut(&self) -> &ConnectionCut {
        &self.connection_cut
    }

    /// The local address that the client connected to.
    pub(crate) fn local(&self) -> IpAddr {
        self.local
    }

    /// The port of an authority without one.
    pub(crate) fn default_port(&self) -> u16 {
        if self.connection.tls { 443 } else { 80 }
    }
}
