//! Whether a request asks for a WebSocket.

use std::time::Duration;

use http::request::Parts;
use http::{Method, Version};
use hyper::ext::Protocol;
use websocket::handshake::{Handshake, Refused};

/// A request for a WebSocket.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) handshake: Result<Handshake, Refused>,
    /// How long the client may read nothing from it.
    pub(crate) send_timeout: Duration,
}

/// Checks whether a request asks for a WebSocket. Over HTTP/2, such a request counts as a GET from here on: that is what
/// its head means (RFC 8441, section 5).
pub(crate) fn handshake(head: &mut Parts) -> Option<Result<Handshake, Refused>> {
    match head.version {
        Version::HTTP_11 => Handshake::of_upgrade(&head.method, head.version, &head.headers),
        Version::HTTP_2 if is_connect(head) => {
            head.method = Method::GET;
            Some(Handshake::of_connect(&head.headers))
        }
        _ => None,
    }
}

fn is_connect(head: &Parts) -> bool {
    head.method == Method::CONNECT
        && head.extensions.get::<Protocol>().is_some_and(|it| it.as_str().eq_ignore_ascii_case("websocket"))
}
