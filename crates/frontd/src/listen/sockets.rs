//! Listening sockets: bound by frontd, or inherited from systemd or `imperium up`.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use config::frontd::FrontdConfig;
use daemon::accept::Acceptor;
use daemon::listen_fds::{ListenFdsError, Listening};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::observe::metrics::Metrics;
use crate::visit::client::Transport;

/// Length of the accept queue. The kernel's `net.core.somaxconn` limits it further.
pub(crate) const BACKLOG: u16 = 4096;

/// Minimum of `TCP_USER_TIMEOUT`: how long a client may be unreachable before the kernel closes its
/// connection. If the send timeout is longer, that applies.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// TCP keep-alive: probes start after 30 s of silence and, with three retries, give up after `USER_TIMEOUT`.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// A listening socket that isn't registered with a runtime yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: StdListener,
    transport: Transport,
}

/// Why a listening socket isn't available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("listen on {address}: {hint}")]
    Bind { address: SocketAddr, hint: &'static str, source: io::Error },
    #[error("answer probes")]
    Admin(#[source] Box<Self>),
    #[error("take over the listening sockets")]
    Inherit(#[from] ListenFdsError),
    #[error("take over socket `{name}` of LISTEN_FDNAMES: its name must be `http`, `https` or `admin`")]
    Name { name: String },
    #[error("make socket `{name}` of LISTEN_FDS non-blocking")]
    Socket { name: String, source: io::Error },
}

/// All listening sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For clients.
    pub(crate) bound: Vec<Bound>,
    /// For probes and metrics.
    pub(crate) admin: Admin,
}

/// The admin socket, not registered with a runtime yet.
#[derive(Debug)]
pub(crate) enum Admin {
    /// Bound by this process, which serves it until it exits.
    Bound(StdListener),
    /// Inherited. The next frontd, if there is one, inherits it too and answers on it while this one drains.
    Inherited(StdListener),
}

/// The sockets that were inherited from systemd or `imperium up`.
#[derive(Debug)]
pub(crate) struct Inherited(Vec<Listening>);

impl Inherited {
    /// Takes them over. To be called once, before threads are started.
    ///
    /// # Errors
    ///
    /// Returns an error if the environment announces a descriptor that isn't open.
    pub(crate) fn take() -> Result<Self, BindError> {
        Ok(Self(daemon::listen_fds::take()?))
    }

    /// Whether TLS is served, on one of these or, if there are none for clients, as `config` says.
    pub(crate) fn serves_tls(&self, config: &FrontdConfig) -> bool {
        match self.0.iter().any(|it| it.name != "admin") {
            true => self.0.iter().any(|it| it.name == "https"),
            false => !config.https.is_empty(),
        }
    }
}

/// Takes over the inherited sockets, and binds those that weren't inherited as the configuration says.
///
/// # Errors
///
/// Returns an error if a socket can't be bound or taken over.
pub(crate) fn bind(config: &FrontdConfig, inherited: Inherited) -> Result<Sockets, BindError> {
    let (admin, clients): (Vec<_>, Vec<_>) = inherited.0.into_iter().partition(|it| it.name == "admin");
    let admin = match admin.into_iter().next() {
        Some(socket) => Admin::Inherited(inherit(socket)?),
        None => Admin::Bound(listen(config.admin).map_err(|it| BindError::Admin(Box::new(it)))?),
    };
    let bound = if clients.is_empty() { bind_clients(config)? } else { inherit_clients(clients, config)? };
    Ok(Sockets { bound, admin })
}

fn inherit_clients(sockets: Vec<Listening>, config: &FrontdConfig) -> Result<Vec<Bound>, BindError> {
    let inherit = |it| {
        let bound = Bound::inherit(it)?;
        // If the kernel lacks these options, vanished clients are only noticed later.
        let _unset = tune(&bound.socket, config.limits.send_timeout);
        Ok(bound)
    };
    sockets.into_iter().map(inherit).collect()
}

/// Binds the client sockets in this process.
pub(crate) fn bind_clients(config: &FrontdConfig) -> Result<Vec<Bound>, BindError> {
    let plain = config.http.iter().map(|it| (*it, Transport::Plain));
    let tls = config.https.iter().map(|it| (*it, Transport::Tls));
    let bind = |(it, transport)| {
        let socket = listen(it)?;
        let _unset = tune(&socket, config.limits.send_timeout);
        Ok(Bound { socket, transport })
    };
    plain.chain(tls).map(bind).collect()
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

    /// The local address.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// Duplicates the socket for another shard.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, transport: self.transport })
    }

    /// Registers the socket with the runtime of the current shard.
    pub(crate) fn listener(self, metrics: &Metrics) -> io::Result<Listener> {
        let acceptor = Acceptor::new(TcpListener::from_std(self.socket)?, metrics.accepting());
        Ok(Listener { acceptor, transport: self.transport })
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
    bind().map_err(|source: io::Error| BindError::Bind { address, hint: hint(&source), source })
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another server uses it: stop that one, or set another address in frontd.toml"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: see `ip address`",
        _ => "see the cause",
    }
}

/// A listener whose `accept` can't fail.
#[derive(Debug)]
pub(crate) struct Listener {
    acceptor: Acceptor<TcpListener>,
    transport: Transport,
}

impl Listener {
    /// Accepts the next connection.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.acceptor.accept().await
    }

    /// Returns a connection that already waits in the kernel's accept queue, if there is one. The kernel
    /// resets those that remain once this socket and its duplicates are closed.
    pub(crate) fn accept_waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match SockRef::from(self.acceptor.listener()).accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true).ok()?;
                    let stream = TcpStream::from_std(stream.into()).ok()?;
                    return Some((stream, peer.as_socket()?));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }
}

/// Disables Nagle's algorithm, and has the kernel detect vanished clients. Accepted connections inherit these
/// options from the listening socket.
fn tune(socket: &StdListener, send_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEP_ALIVE)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT.max(send_timeout)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream as Client};

    use super::*;

    fn listening() -> (Bound, SocketAddr) {
        let socket = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        tune(&socket, Duration::from_secs(90)).unwrap();
        let bound = Bound { socket, transport: Transport::Plain };
        let address = bound.address().unwrap();
        (bound, address)
    }

    #[tokio::test]
    async fn accepted_connections_detect_vanished_clients() {
        let (bound, address) = listening();
        let mut listener = bound.share().unwrap().listener(&Metrics::new()).unwrap();
        let _clients = [Client::connect(address).unwrap(), Client::connect(address).unwrap()];
        let (first, _) = listener.accept().await;
        let (second, _) = listener.accept_waiting().unwrap();
        for stream in [first, second] {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(90)));
        }
    }
}
