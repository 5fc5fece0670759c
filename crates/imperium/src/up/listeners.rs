//! Binds the listening sockets once. They outlive each frontd, so that a restart refuses no connection.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};

use miette::Diagnostic;
use socket2::{Domain, Protocol, Socket, Type};

use super::port_owner::{self, Owner};
use super::spawn::FIRST_FD;

/// The length of the kernel's accept queue, which fills while frontd restarts.
const BACKLOG: i32 = 4096;
/// How many ports are tried to find a free one to suggest.
const PORTS_TRIED: u16 = 20;

/// The sockets that frontd inherits.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<(&'static str, Socket)>,
    /// Occupies the descriptors that the sockets will have in frontd, so that no socket is itself at one of
    /// them.
    _reserved: Vec<File>,
}

/// Why an address can't be bound.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("listen for {name} on {address}{}", self.taken_by())]
#[diagnostic(help("{}", self.hint()))]
pub(crate) struct BindError {
    name: &'static str,
    address: SocketAddr,
    /// The process that listens there.
    owner: Option<Owner>,
    source: io::Error,
}

impl Listeners {
    /// Binds each address. Its name is frontd's: `http`, `https` or `admin`.
    ///
    /// # Errors
    /// If an address is in use, forbidden, or not one of this machine.
    pub(crate) fn bind(addresses: &[(&'static str, SocketAddr)]) -> Result<Self, BindError> {
        let reserved = reserve(addresses.len());
        let bind = |&(name, address): &(&'static str, SocketAddr)| {
            let socket = bind(address).map_err(|source| BindError::new(name, address, source))?;
            Ok((name, socket))
        };
        Ok(Self { sockets: addresses.iter().map(bind).collect::<Result<_, _>>()?, _reserved: reserved })
    }

    /// Returns the addresses of a name, with the actual ports where 0 was given.
    pub(crate) fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        let named = self.sockets.iter().filter(|it| it.0 == name);
        named.filter_map(|(_, socket)| socket.local_addr().ok()?.as_socket()).collect()
    }

    /// Returns the names, for `LISTEN_FDNAMES`.
    pub(crate) fn names(&self) -> String {
        self.sockets.iter().map(|it| it.0).collect::<Vec<_>>().join(":")
    }

    /// Returns the sockets, in the order of their names.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(|it| it.1.as_fd()).collect()
    }
}

impl BindError {
    fn new(name: &'static str, address: SocketAddr, source: io::Error) -> Self {
        let is_taken = source.kind() == io::ErrorKind::AddrInUse;
        Self { name, address, owner: if is_taken { port_owner::find(address) } else { None }, source }
    }

    fn taken_by(&self) -> String {
        self.owner.as_ref().map(|owner| format!(": the port is taken by {owner}")).unwrap_or_default()
    }

    fn hint(&self) -> String {
        let Self { name, address, owner, source } = self;
        let other = |port: u16| match (*name, address.ip()) {
            ("http", ip) if ip == Ipv4Addr::LOCALHOST => format!("choose another port: --port {port}"),
            (_, ip) => format!("choose another address: --{name} {}", SocketAddr::new(ip, port)),
        };
        let port = address.port();
        match (source.kind(), owner) {
            (io::ErrorKind::AddrInUse, Some(Owner { pid, .. })) => {
                format!("stop that process (`kill {pid}`), or {}", other(free_after(*address)))
            }
            (io::ErrorKind::AddrInUse, None) => format!(
                "stop the process that listens there (`sudo ss -ltnp 'sport = :{port}'` names it), or {}",
                other(free_after(*address))
            ),
            (io::ErrorKind::PermissionDenied, _) => {
                format!("only root may listen on ports below 1024; {}", other(port.saturating_add(8000)))
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                format!(
                    "no network interface has {} (`ip address` lists them); choose another one",
                    address.ip()
                )
            }
            _ => other(port),
        }
    }
}

/// Returns the next free port.
fn free_after(address: SocketAddr) -> u16 {
    let next = address.port().saturating_add(1);
    let is_free = |port: &u16| TcpListener::bind(SocketAddr::new(address.ip(), *port)).is_ok();
    (next..next.saturating_add(PORTS_TRIED)).find(is_free).unwrap_or(next)
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run in TIME_WAIT don't prevent this one from binding.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Occupies the free descriptors among those that `sockets` sockets will get, from 3 up.
fn reserve(sockets: usize) -> Vec<File> {
    let end = RawFd::try_from(sockets).unwrap_or(RawFd::MAX).saturating_add(FIRST_FD);
    std::iter::from_fn(|| File::open("/dev/null").ok()).take_while(|it| it.as_raw_fd() < end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_above_the_descriptors_they_are_moved_to() {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(&[("http", any), ("https", any), ("https", any)]).unwrap();
        assert_eq!(listeners.names(), "http:https:https");
        assert!(listeners.fds().iter().all(|it| it.as_raw_fd() >= FIRST_FD + 3));
        assert_eq!((listeners.addresses("http").len(), listeners.addresses("https").len()), (1, 2));
        assert!(listeners.addresses("https").iter().all(|it| it.port() != 0));
    }

    #[test]
    fn a_port_in_use_is_reported_with_a_hint() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listeners::bind(&[("https", address)]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("listen for https on {address}: the port is taken by imperium")),
            "{message}"
        );
        let pid = std::process::id();
        assert!(message.ends_with(&format!("(pid {pid})")), "{message}");
        let hint = error.help().unwrap().to_string();
        assert!(hint.contains(&format!("kill {pid}")) && hint.contains("--https 127.0.0.1:"), "{hint}");
        let unseen = BindError { name: "http", owner: None, ..error };
        let hint = unseen.hint();
        assert!(hint.contains(&format!("sport = :{}", address.port())) && hint.contains("--port "), "{hint}");
    }

    #[test]
    fn an_address_of_another_machine_is_reported() {
        let error = Listeners::bind(&[("http", "192.0.2.1:8080".parse().unwrap())]).unwrap_err();
        assert!(error.hint().contains("no network interface has 192.0.2.1"), "{}", error.hint());
    }
}
