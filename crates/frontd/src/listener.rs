//! Listening sockets: bound here, or handed over by systemd or `imperium up`.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use config::frontd::FrontdConfig;
use daemon::listen_fds::{ListenFdsError, Listening};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error};

use crate::client::Transport;

/// Connections that wait to be accepted, at most; the kernel's `net.core.somaxconn` bounds it further.
pub(crate) const BACKLOG: u16 = 4096;

/// How long a client may take nothing of what is sent to it, or be unreachable, before the kernel gives it up.
const STALLED: Duration = Duration::from_secs(60);

/// A socket that listens, before a runtime has it.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: StdListener,
    transport: Transport,
}

/// Why a socket does not listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("listen on {address}: {cure}")]
    Bind { address: SocketAddr, cure: &'static str, source: io::Error },
    #[error("answer probes")]
    Admin(#[source] Box<Self>),
    #[error("take over the listening sockets")]
    Inherit(#[from] ListenFdsError),
    #[error(
        "take over socket `{name}` of LISTEN_FDNAMES: it is named neither `http` nor `https` nor `admin`"
    )]
    Name { name: String },
    #[error("make socket `{name}` of LISTEN_FDS non-blocking")]
    Socket { name: String, source: io::Error },
}

/// All that is listened on.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For clients.
    pub(crate) bound: Vec<Bound>,
    /// For probes and metrics.
    pub(crate) admin: Admin,
}

/// The admin socket, before a runtime has it.
#[derive(Debug)]
pub(crate) enum Admin {
    /// Bound here, and served to the very end.
    Bound(StdListener),
    /// Handed over, as it will be to the next frontd, where one follows: it answers while this one drains.
    Inherited(StdListener),
}

/// The sockets that were handed over, and those of the configuration in place of what was not.
///
/// # Errors
/// When one cannot be had.
pub(crate) fn bind(config: &FrontdConfig) -> Result<Sockets, BindError> {
    let (admin, clients): (Vec<_>, Vec<_>) =
        daemon::listen_fds::take()?.into_iter().partition(|it| it.name == "admin");
    let admin = match admin.into_iter().next() {
        Some(socket) => Admin::Inherited(inherit(socket)?),
        None => Admin::Bound(listen(config.admin).map_err(|it| BindError::Admin(Box::new(it)))?),
    };
    let bound = if clients.is_empty() { bind_clients(config)? } else { inherit_clients(clients)? };
    Ok(Sockets { bound, admin })
}

fn inherit_clients(sockets: Vec<Listening>) -> Result<Vec<Bound>, BindError> {
    sockets.into_iter().map(Bound::inherit).collect()
}

/// Sockets of this process's own.
pub(crate) fn bind_clients(config: &FrontdConfig) -> Result<Vec<Bound>, BindError> {
    let plain = config.http.iter().map(|it| (*it, Transport::Plain));
    let tls = config.https.iter().map(|it| (*it, Transport::Tls));
    plain.chain(tls).map(|(it, transport)| Ok(Bound { socket: listen(it)?, transport })).collect()
}

impl Bound {
    fn inherit(socket: Listening) -> Result<Self, BindError> {
        let transport = match socket.name.as_str() {
            "http" => Transport::Plain,
            "https" => Transport::Tls,
            _ => return Err(BindError::Name { name: socket.name }),
        };
        Ok(Self { socket: inherit(socket)?, transport })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// The same socket, for another shard.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, transport: self.transport })
    }

    /// The socket, for the runtime of the current shard.
    pub(crate) fn listener(self) -> io::Result<Listener> {
        Ok(Listener { socket: TcpListener::from_std(self.socket)?, transport: self.transport })
    }
}

fn inherit(Listening { name, fd }: Listening) -> Result<StdListener, BindError> {
    let socket = StdListener::from(fd);
    socket.set_nonblocking(true).map_err(|source| BindError::Socket { name, source })?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> Result<StdListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG.into())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|source: io::Error| BindError::Bind { address, cure: cure(&source), source })
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another server has it: stop that one, or set another address in frontd.toml"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: see `ip address`",
        _ => "see the cause",
    }
}

/// A socket whose `accept` cannot fail.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    transport: Transport,
}

impl Listener {
    /// How long accepting pauses when the process has no descriptors or memory left.
    const PAUSE: Duration = Duration::from_millis(100);

    /// The next connection.
    pub(crate) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // A connection that is gone already says so when it is read.
                    let _gone = tune(&stream);
                    return (stream, peer);
                }
                Err(error) if is_of_the_connection(&error) => {
                    debug!(%error, "client left before it was accepted");
                }
                Err(error) => {
                    error!(%error, "cannot accept connections: raise LimitNOFILE, or lower limits.connections");
                    tokio::time::sleep(Self::PAUSE).await;
                }
            }
        }
    }

    /// A connection that the kernel has accepted already, if there is one. Once this socket and its clones are
    /// closed, the kernel resets those that are left.
    pub(crate) fn accept_waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match SockRef::from(&self.socket).accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true).ok()?;
                    let stream = TcpStream::from_std(stream.into()).ok()?;
                    let _gone = tune(&stream);
                    return Some((stream, peer.as_socket()?));
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }
}

/// Answers go out at once, and who takes none is not waited for.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(STALLED))
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
