//! Calls emperord's admin service, and explains failed calls.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::admin::admin_service_client::AdminServiceClient;
use api::admin::{StatusRequest, StatusResponse};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Time limit for a status request, which emperord answers from memory.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// Why a call to emperord failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum AdminError {
    /// Nothing accepts connections on the socket.
    #[error("emperord doesn't respond at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        source: io::Error,
        #[help]
        hint: &'static str,
    },
    /// The connection broke, or the answer didn't come in time.
    #[error("emperord at {} didn't answer: {cause}", socket.display())]
    #[diagnostic(help("look at its log, and try again"))]
    Broken { socket: PathBuf, cause: String },
    /// emperord refused the request.
    #[error("{}", .0.message())]
    Refused(Status),
}

/// Runs a command's future to completion on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> miette::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.into_diagnostic().wrap_err("start the event loop")?.block_on(future))
}

/// Makes one call to the emperord that listens on `socket`.
pub(crate) async fn ask<T>(
    socket: &Path,
    call: impl AsyncFnOnce(&mut AdminServiceClient<Channel>) -> Result<Response<T>, Status>,
) -> Result<T, AdminError> {
    let mut client = AdminServiceClient::new(daemon::uds::channel(socket, |it| it));
    match call(&mut client).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(AdminError::new(socket, status)),
    }
}

/// Asks emperord for its state.
pub(crate) async fn status(socket: &Path) -> Result<StatusResponse, AdminError> {
    let mut request = Request::new(StatusRequest {});
    request.set_timeout(STATUS_LIMIT);
    ask(socket, async |emperord| emperord.status(request).await).await
}

impl AdminError {
    fn new(socket: &Path, status: Status) -> Self {
        let socket = socket.to_owned();
        // Only transport errors have a source. emperord's own answers have none.
        match (status.source().is_some(), connect_error(&status)) {
            (_, Some(source)) => Self::Unreachable { socket, hint: hint(source.kind()), source },
            (true, None) => Self::Broken { socket, cause: root_cause(&status) },
            (false, None) => Self::Refused(status),
        }
    }
}

/// The error of `connect`, if the connection couldn't be established.
fn connect_error(status: &Status) -> Option<io::Error> {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let mut error: &(dyn Error + 'static) = status;
    let error = loop {
        match error.downcast_ref::<io::Error>() {
            Some(found) => break found,
            None => error = error.source()?,
        }
    };
    let never_connected = matches!(error.kind(), ConnectionRefused | NotFound | PermissionDenied);
    never_connected
        .then(|| error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
}

/// The innermost error, without the layers around it.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&it| it.source()).last().unwrap_or(error).to_string()
}

fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "ask as root, or as a member of the group that owns the socket",
        _ => {
            "for development, run `imperium up app.py`; for the apps of a folder, `imperium up --root DIR`; as a service, \
             `systemctl start emperord`. If it runs elsewhere, say where: --root DIR, IMPERIUM_ROOT=DIR or --emperord SOCKET"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_is_reported_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("emperord.sock");
        let error = status(&socket).await.unwrap_err();
        assert_eq!(error.to_string(), format!("emperord doesn't respond at {}", socket.display()));
        assert!(error.source().unwrap().to_string().contains("No such file"), "{error:?}");
        let help = error.help().unwrap().to_string();
        assert!(
            ["imperium up app.py", "imperium up --root DIR", "systemctl start"]
                .iter()
                .all(|it| help.contains(it))
        );
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("emperord.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(matches!(status(&socket).await, Err(AdminError::Unreachable { .. })));
    }

    #[tokio::test]
    async fn a_closed_connection_is_reported_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("emperord.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let error = status(&socket).await.unwrap_err();
        hangs_up.join().unwrap();
        let text = error.to_string();
        assert!(text.starts_with(&format!("emperord at {} didn't answer: ", socket.display())), "{text}");
        assert!(!text.contains("hyper") && error.source().is_none(), "{error:?}");
    }
}
