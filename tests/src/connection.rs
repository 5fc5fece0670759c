//! A client connection for HTTP/1.1 or HTTP/2.

use std::error::Error as _;
use std::time::Duration;

use anyhow::Context as _;
use h2::Reason;
use http::header::HOST;
use http::uri::{Scheme, Uri};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::body::Body;

/// How often, and how many times, to look whether the server allows WebSockets over HTTP/2.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 4000;

/// An open connection. It closes once this is dropped and its last response was read.
pub struct Connection {
    sender: Sender,
    authority: String,
    /// Whether the server allows WebSockets over HTTP/2.
    extended_connect: watch::Receiver<bool>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server closed the connection before the request was written: it can be sent on another one.
    #[error("the connection closed before the request was sent")]
    NotSent(Box<Request<Body>>),
    /// The server was going away, and reported it before it processed the request: it can be sent on another
    /// connection (RFC 9113, 6.8). hyper doesn't return the request.
    #[error("the connection was going away before the request was taken")]
    Refused(#[source] hyper::Error),
    /// It is unknown whether the request was processed.
    #[error("no response came")]
    Lost(#[source] hyper::Error),
}

impl From<TrySendError<Request<Body>>> for SendError {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        match error.take_message() {
            Some(request) => Self::NotSent(Box::new(request)),
            None => Self::of(error.into_error()),
        }
    }
}

impl SendError {
    fn of(error: hyper::Error) -> Self {
        let http2: Option<&h2::Error> = error.source().and_then(|it| it.downcast_ref());
        let goes_away =
            |it: &h2::Error| it.is_go_away() && it.is_remote() && it.reason() == Some(Reason::NO_ERROR);
        if http2.is_some_and(goes_away) { Self::Refused(error) } else { Self::Lost(error) }
    }
}

impl Connection {
    pub(crate) async fn http1(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: String,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("begin HTTP/1.1")?;
        drive(connection.with_upgrades());
        Ok(Self { sender: Sender::Http1(sender), authority, extended_connect: watch::channel(false).1 })
    }

    pub(crate) async fn http2(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: String,
    ) -> anyhow::Result<Self> {
        let io = TokioIo::new(stream);
        let (sender, mut connection) =
            http2::handshake(TokioExecutor::new(), io).await.context("begin HTTP/2")?;
        let (allowed, extended_connect) = watch::channel(false);
        drive(async move {
            // hyper tells nobody when the settings have arrived.
            for _ in 0..LOOKS {
                if connection.is_extended_connect_protocol_enabled() {
                    break;
                }
                tokio::select! {
                    ended = &mut connection => return ended,
                    () = sleep(LOOK) => {}
                }
            }
            allowed.send_replace(connection.is_extended_connect_protocol_enabled());
            connection.await
        });
        Ok(Self { sender: Sender::Http2(sender), authority, extended_connect })
    }

    /// Sends a request, and waits for the head of its response.
    ///
    /// # Errors
    /// If the connection broke. The error tells what is known about the request.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                if let Ok(host) = HeaderValue::from_str(&self.authority) {
                    request.headers_mut().entry(HOST).or_insert(host);
                }
                if sender.ready().await.is_err() {
                    return Err(SendError::NotSent(Box::new(request)));
                }
                sender.try_send_request(request).await.map_err(SendError::from)
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = absolute(request.uri(), &self.authority);
                if sender.ready().await.is_err() {
                    return Err(SendError::NotSent(Box::new(request)));
                }
                sender.try_send_request(request).await.map_err(SendError::from)
            }
        }
    }

    /// Whether it is HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Waits until the server has told that it allows WebSockets over HTTP/2 (RFC 8441).
    pub(crate) async fn allows_websockets(&self) -> anyhow::Result<()> {
        let allows = self.extended_connect.clone().wait_for(|it| *it).await.map(drop);
        allows.context("the connection closed before the server allowed WebSockets over HTTP/2")
    }

    /// Whether the server has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// A broken connection is reported to whoever waits for a response.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    TaskTracker::new().spawn(connection);
}

fn absolute(path: &Uri, authority: &str) -> Uri {
    let mut parts = path.clone().into_parts();
    if parts.authority.is_none() {
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = authority.parse().ok();
    }
    Uri::from_parts(parts).unwrap_or_else(|_| path.clone())
}
