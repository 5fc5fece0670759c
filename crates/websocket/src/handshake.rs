//! The handshake: over HTTP/1.1 (RFC 6455, section 4.2), and over HTTP/2 (RFC 8441).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};
use sha1::{Digest as _, Sha1};

use crate::deflate::Offer;

/// The only version that there is.
pub const VERSION: &str = "13";

/// What the key is hashed with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's valid request for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The answer to its key. `None` over HTTP/2.
    accept: Option<HeaderValue>,
    /// How it would compress messages.
    pub deflate: Option<Offer>,
}

/// Why a request for a WebSocket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The response needs `Sec-WebSocket-Version`.
    #[error("the version of the WebSocket protocol isn't 13")]
    Version,
    /// It violates the protocol.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Handshake {
    /// Checks an HTTP/1.1 request. Returns `None` if it doesn't ask for a WebSocket.
    ///
    /// # Errors
    ///
    /// Returns an error if it asks for one incorrectly.
    pub fn of_upgrade(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Option<Result<Self, Refused>> {
        // HTTP/1.0 has no upgrades (RFC 9110, section 7.8).
        let asks = version == Version::HTTP_11
            && headers.contains_key(UPGRADE)
            && lists(headers, &UPGRADE, "websocket")
            && lists(headers, &CONNECTION, "upgrade");
        asks.then(|| Self::check_upgrade(method, headers))
    }

    fn check_upgrade(method: &Method, headers: &HeaderMap) -> Result<Self, Refused> {
        if *method != Method::GET {
            return Err(Refused::Invalid("the method of a WebSocket handshake isn't GET"));
        }
        let is_empty = |it: &HeaderValue| it == "0";
        if headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(is_empty) {
            return Err(Refused::Invalid("a WebSocket handshake has a body"));
        }
        check_version(headers)?;
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(Refused::Invalid("a WebSocket handshake has no Sec-WebSocket-Key, or several"));
        };
        if !STANDARD.decode(key).is_ok_and(|it| it.len() == 16) {
            return Err(Refused::Invalid("the Sec-WebSocket-Key isn't the Base64 form of 16 bytes"));
        }
        let accept = accept(key.as_bytes());
        Ok(Self { accept: Some(accept), deflate: Offer::of(headers) })
    }

    /// Checks a CONNECT request of HTTP/2 whose `:protocol` is `websocket`.
    ///
    /// # Errors
    ///
    /// Returns an error if it asks for a WebSocket incorrectly.
    pub fn of_connect(headers: &HeaderMap) -> Result<Self, Refused> {
        check_version(headers)?;
        Ok(Self { accept: None, deflate: Offer::of(headers) })
    }

    /// The response headers that accept it, apart from the extension and the subprotocol. None over HTTP/2.
    pub fn accept(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let switch = self.accept.clone().map(|accept| {
            [
                (CONNECTION, HeaderValue::from_static("Upgrade")),
                (UPGRADE, HeaderValue::from_static("websocket")),
                (SEC_WEBSOCKET_ACCEPT, accept),
            ]
        });
        switch.into_iter().flatten()
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), Refused> {
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    match (versions.next(), versions.next()) {
        (Some(version), None) if version == VERSION => Ok(()),
        _ => Err(Refused::Version),
    }
}

/// The value of `Sec-WebSocket-Accept`.
fn accept(key: &[u8]) -> HeaderValue {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::from_str(&STANDARD.encode(hash)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a header lists this token.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ASKS: [(&str, &str); 3] =
        [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), ("sec-websocket-version", "13")];

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(header).collect()
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let headers = map(&[&ASKS[..], &[KEY]].concat());
        let handshake = Handshake::of_upgrade(&Method::GET, Version::HTTP_11, &headers).unwrap().unwrap();
        let accept: Vec<_> =
            handshake.accept().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let expected = [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ];
        assert_eq!(accept, expected);
        assert_eq!(Handshake::of_connect(&map(&[ASKS[2]])).unwrap().accept().count(), 0);
    }

    #[test]
    fn other_requests_are_none_of_its_business() {
        let headers = map(&[&ASKS[..], &[KEY]].concat());
        assert!(Handshake::of_upgrade(&Method::GET, Version::HTTP_10, &headers).is_none());
        for (left_out, _) in &ASKS[..2] {
            let mut headers = headers.clone();
            headers.remove(*left_out);
            assert!(Handshake::of_upgrade(&Method::GET, Version::HTTP_11, &headers).is_none());
        }
        let headers = map(&[("upgrade", "h2c"), ("connection", "upgrade"), KEY]);
        assert!(Handshake::of_upgrade(&Method::GET, Version::HTTP_11, &headers).is_none());
    }

    #[test]
    fn an_incorrect_handshake_is_refused() {
        let check = |method: Method, headers: &[(&'static str, &'static str)], expected: &str| {
            let headers = map(headers);
            let refused = Handshake::of_upgrade(&method, Version::HTTP_11, &headers).unwrap().unwrap_err();
            assert_eq!(refused.to_string(), expected, "{headers:?}");
        };
        let with = |more: &[(&'static str, &'static str)]| [&ASKS[..], more].concat();
        check(Method::POST, &with(&[KEY]), "the method of a WebSocket handshake isn't GET");
        check(Method::GET, &with(&[KEY, ("content-length", "5")]), "a WebSocket handshake has a body");
        check(
            Method::GET,
            &with(&[KEY, ("transfer-encoding", "chunked")]),
            "a WebSocket handshake has a body",
        );
        let version = "the version of the WebSocket protocol isn't 13";
        check(Method::GET, &[ASKS[0], ASKS[1], KEY], version);
        check(Method::GET, &[ASKS[0], ASKS[1], KEY, ("sec-websocket-version", "8")], version);
        check(Method::GET, &with(&[KEY, ASKS[2]]), version);
        let key = "a WebSocket handshake has no Sec-WebSocket-Key, or several";
        check(Method::GET, &with(&[]), key);
        check(Method::GET, &with(&[KEY, KEY]), key);
        for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25j!Q=="]
        {
            let expected = "the Sec-WebSocket-Key isn't the Base64 form of 16 bytes";
            check(Method::GET, &with(&[("sec-websocket-key", key)]), expected);
        }
        assert_eq!(Handshake::of_connect(&map(&[])), Err(Refused::Version));
    }
}
