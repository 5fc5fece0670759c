//! gRPC over unix sockets: listening and connecting.

mod lazy_write;

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint};

pub use lazy_write::LazyWriteStream;

/// Why a socket couldn't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{step} unix socket {}", path.display())]
pub struct ListenError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Listens on `path` with mode 0660. Replaces a socket that an earlier process left there.
///
/// # Errors
///
/// Returns an error if `path` exists and isn't a socket, or if the kernel refuses.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |step| move |source| ListenError { step, path: path.to_owned(), source };
    // Bound under another name, then renamed: a peer finds the old socket or one that is ready, never one
    // without its permissions.
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    if fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
        return Err(failed("replace")(io::Error::other("it exists and isn't a socket: move it away")));
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("bind"))?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    fs::rename(&fresh, path).map_err(failed("put in place"))?;
    Ok(listener)
}

/// Creates a channel to the server at `path`. It connects with the first call, and reconnects after a
/// failure.
///
/// `tune` changes settings of the endpoint, such as window sizes.
#[must_use]
pub fn channel(path: &Path, tune: impl FnOnce(Endpoint) -> Endpoint) -> Channel {
    let path = path.to_owned();
    tune(endpoint()).connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.and_then(LazyWriteStream::new).map(TokioIo::new) }
    }))
}

/// Like [`channel`], for a socket in another user's folder. That user could replace it with a symlink to any
/// socket, so symlinks are an error.
#[must_use]
pub fn channel_without_links(path: &Path, tune: impl FnOnce(Endpoint) -> Endpoint) -> Channel {
    let path = path.to_owned();
    tune(endpoint()).connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { connect_without_links(&path).await.and_then(LazyWriteStream::new).map(TokioIo::new) }
    }))
}

/// The address is never resolved. It becomes the `:authority` of the calls.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

/// Connects to the socket that was opened and checked, even if its path is replaced meanwhile.
async fn connect_without_links(path: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(io::Error::other(format!("connect to {}: it isn't a socket", path.display())));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        drop(listen(&socket).unwrap());
        let listener = listen(&socket).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
        let (client, server) = tokio::join!(UnixStream::connect(&socket), listener.accept());
        assert_eq!(server.unwrap().0.peer_cred().unwrap().pid(), client.unwrap().peer_cred().unwrap().pid());

        let file = folder.path().join("precious");
        fs::write(&file, "data").unwrap();
        assert!(listen(&file).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "data");
    }
    #[tokio::test]
    async fn a_link_in_place_of_a_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        let listener = listen(&socket).unwrap();
        let (client, server) = tokio::join!(connect_without_links(&socket), listener.accept());
        assert_eq!(server.unwrap().0.peer_cred().unwrap().pid(), client.unwrap().peer_cred().unwrap().pid());

        let link = folder.path().join("b.sock");
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let error = connect_without_links(&link).await.unwrap_err().to_string();
        assert!(error.ends_with("b.sock: it isn't a socket"), "{error}");
        // Like a restarted worker: the path now belongs to a new socket.
        let listener = listen(&socket).unwrap();
        let (client, server) = tokio::join!(connect_without_links(&socket), listener.accept());
        assert!(client.is_ok() && server.is_ok());
        drop((listener, fs::remove_file(&socket)));
        assert_eq!(connect_without_links(&socket).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
