//! A listener that passes each connection on over TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use tests::client::{Protocol, trusting};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// It is closed on drop.
pub(crate) struct Tunnel {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Tunnel {
    /// Opens one to `host` at `far`, whose certificate is signed by the CA in that file.
    ///
    /// # Errors
    /// If the file can't be read, or no socket can be opened.
    pub(crate) async fn open(far: SocketAddr, host: &'static str, ca: &Path) -> anyhow::Result<Self> {
        let connector = TlsConnector::from(Arc::new(trusting(ca, Protocol::Http1)?));
        let name = ServerName::try_from(host).context("a host name")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a socket")?;
        let address = listener.local_addr()?;
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        let accepting = tasks.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // If it breaks, kosoku reports that the connection ended.
                connections.spawn(pass(near, far, connector.clone(), name.clone()));
            }
        });
        Ok(Self { address, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn pass(
    mut near: TcpStream,
    far: SocketAddr,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> std::io::Result<()> {
    let far = TcpStream::connect(far).await?;
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    let mut far = connector.connect(name, far).await?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
}
