//! Detects sockets and threads from the app's import, which forked workers would share or lack.
#![expect(unsafe_code, reason = "descriptors that this process did not open are known by number only")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketType};

use crate::life::start_limit;

/// The largest number of sockets that are listed individually.
const NAMED: usize = 16;

/// The open sockets of this process.
#[derive(Debug)]
pub(crate) struct Sockets(BTreeSet<RawFd>);

impl Sockets {
    pub(crate) fn now() -> Self {
        let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let is_socket = |entry: &fs::DirEntry| {
            fs::read_link(entry.path())
                .is_ok_and(|it| it.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        };
        let sockets = entries.filter(is_socket);
        Self(sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Warns of each socket that was opened since and is still open: all forked workers would use it.
    pub(crate) fn warn_of_new(&self) {
        let opened: Vec<RawFd> = Self::now().0.difference(&self.0).copied().collect();
        for descriptor in opened.iter().take(NAMED) {
            let socket = describe(*descriptor);
            tracing::warn!(
                descriptor,
                "the app opened a socket while it was imported, and all of its workers share it: {socket}: open it in a \
                 function given to `imperium.on_fork`, or with the first request"
            );
        }
        if let Some(more) = opened.len().checked_sub(NAMED).filter(|it| *it > 0) {
            tracing::warn!(more, "the app's import opened more sockets, which all workers will share");
        }
    }
}

/// Describes a socket, such as `tcp 127.0.0.1:40312, connected to 127.0.0.1:5432`.
fn describe(descriptor: RawFd) -> String {
    // SAFETY: this process has just listed its descriptors. One that was closed meanwhile causes an error.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let kind = rustix::net::sockopt::socket_type(socket).unwrap_or(SocketType::STREAM);
    let own = rustix::net::getsockname(socket).ok().map(End::of);
    let peer = rustix::net::getpeername(socket).ok().flatten().map(End::of);
    let listens = rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
    let protocol = match (&own, kind) {
        (Some(End::Internet(_)), SocketType::STREAM) => "tcp",
        (Some(End::Internet(_)), SocketType::DGRAM) => "udp",
        (Some(End::Unix(_)), SocketType::DGRAM) => "unix datagram",
        (Some(End::Unix(_)), _) => "unix",
        _ => "other",
    };
    match (own, peer) {
        (Some(own), _) if listens => format!("{protocol} {own}, listening"),
        (Some(End::Unix(None)), Some(End::Unix(None))) => {
            format!("{protocol}, one end of a pair, as event loops use")
        }
        (Some(End::Unix(None)), Some(peer)) => format!("{protocol}, connected to {peer}"),
        (Some(own), Some(peer)) => format!("{protocol} {own}, connected to {peer}"),
        (Some(own), None) => format!("{protocol} {own}, not connected"),
        (None, _) => protocol.to_owned(),
    }
}

/// One end of a socket.
enum End {
    Internet(SocketAddr),
    /// The path, or `@` and the name of an abstract socket.
    Unix(Option<String>),
    Other,
}

impl End {
    fn of(address: SocketAddrAny) -> Self {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Self::Internet(address);
        }
        match SocketAddrUnix::try_from(address) {
            Ok(unix) => Self::Unix(
                unix.path_bytes()
                    .map(|it| String::from_utf8_lossy(it).into_owned())
                    .or_else(|| Some(format!("@{}", String::from_utf8_lossy(unix.abstract_name()?))))
                    .filter(|it| !it.is_empty() && it != "@"),
            ),
            Err(_) => Self::Other,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(Some(path)) => f.write_str(path),
            Self::Unix(None) => f.write_str("without a name"),
            Self::Other => f.write_str("of another family"),
        }
    }
}

/// Refuses to fork if there are other threads: a forked process doesn't have them, and locks that they hold
/// would stay locked. An app whose threads start again in a forked process says so in its file.
pub(crate) fn check_threads(py: Python<'_>, are_allowed: bool) -> PyResult<()> {
    let threads = py.import("threading")?.call_method0("enumerate")?;
    let names: Vec<String> = threads
        .try_iter()?
        .skip(1)
        .map(|thread| thread?.getattr("name")?.extract())
        .collect::<PyResult<_>>()?;
    let names = names.join(", ");
    if !names.is_empty() && !are_allowed {
        return Err(PyRuntimeError::new_err(format!(
            "the app starts threads while it is imported, which no forked worker would have ({names}): start them in a \
             function that you give to `imperium.on_fork`; or write `preload = {{ threads = \"allow\" }}` if they start \
             again in a forked process by themselves; or leave `preload` out"
        )));
    }
    if are_allowed {
        if !names.is_empty() {
            tracing::info!(
                threads = names,
                "threads are running in the template, which the app's file allows"
            );
        }
        return Ok(());
    }
    let others = foreign_threads();
    if others > 0 {
        tracing::warn!(
            threads = others,
            "C code of the app runs threads, which forked workers don't inherit"
        );
    }
    Ok(())
}

/// The number of threads that C code has started. Imperium's own are safe to fork.
fn foreign_threads() -> usize {
    // A newly started thread of the log has no name yet.
    daemon::logging::flush();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_ours = |task: &fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        [daemon::output::WRITER, start_limit::WATCH].contains(&name.trim_end())
    };
    tasks.filter(|it| !is_ours(it)).count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn sockets_are_described() {
        let before = Sockets::now();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sock");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (own, peer) = (client.local_addr().unwrap(), listener.local_addr().unwrap());
        let database = UnixListener::bind(&path).unwrap();
        let session = UnixStream::connect(&path).unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (descriptor, expected) in [
            (listener.as_raw_fd(), format!("tcp {peer}, listening")),
            (client.as_raw_fd(), format!("tcp {own}, connected to {peer}")),
            (database.as_raw_fd(), format!("unix {}, listening", path.display())),
            (session.as_raw_fd(), format!("unix, connected to {}", path.display())),
            (one.as_raw_fd(), "unix, one end of a pair, as event loops use".to_owned()),
            (datagrams.as_raw_fd(), format!("udp {}, not connected", datagrams.local_addr().unwrap())),
        ] {
            assert_eq!(describe(descriptor), expected);
            assert!(Sockets::now().0.contains(&descriptor) && !before.0.contains(&descriptor));
        }
    }
}
