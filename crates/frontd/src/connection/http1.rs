//! Speaks HTTP/1.1 with one client.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::cuttable::Cuttable;
use super::head_guard::{HeadGuard, HeadLimits};
use super::hinted::Hinted;
use super::{Served, Server};
use crate::visit::client::Client;

/// Maximum size of hyper's buffers for HTTP/1.1: for received data, and for response data in addition to the
/// last chunk it was given.
const BUFFER: usize = 128 * 1024;

/// How long an HTTP/1.1 client may take to send its last request once a drain has begun.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Whether the client is expected to speak HTTP on the connection as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Yes,
    /// The port expects TLS.
    No,
}

/// Serves the connection until the client closes it, or until the drain ends it.
pub(super) async fn serve<IO>(server: &Arc<Server>, client: &Client, io: IO, expected: Expected) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.service.settings.read().limits.clone();
    let head = HeadLimits { time: limits.header_timeout, bytes: limits.header_bytes };
    let io = Cuttable::new(Hinted::new(io, client.early_hints().clone()), client.connection_cut().clone());
    let io = HeadGuard::new(io, head, client.refusal().clone()).until(client.upgrade().clone());
    let service = service_fn(async |request| {
        let mut response = match expected {
            Expected::Yes => server.service.respond(client, request).await,
            Expected::No => server.service.refuse_plain(client, request),
        };
        let closes = expected == Expected::No || server.drain.is_cancelled();
        if closes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        // hyper counts the idle time before a head towards this timeout; the head guard measures the head
        // alone.
        .header_read_timeout(limits.keep_alive)
        // The head guard refuses longer heads. Percent-encoding unusual characters of a target can triple its
        // length.
        .max_header_size(limits.header_bytes * 3 + 1024)
        .max_buf_size((limits.header_bytes * 4).max(BUFFER))
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        // Polled first, so that a request that has already arrived is read.
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        // A busy client may have its next request on the way; its response will carry `Connection: close`.
        () = server.drained(LAST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}
