//! Decides which headers are forwarded to the app and to the client.

use api::runner::Header;
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING,
};

/// The request headers for the app. Omits hop-by-hop headers (RFC 9110, section 7.6.1) and those that could
/// be mistaken for frontd's own or for environment variables. Sets `host` and `content-length` to the actual
/// values.
pub(crate) fn for_app(
    headers: &HeaderMap,
    host: &Bytes,
    body_length: Option<u64>,
    arena: &mut Arena,
) -> Vec<Header> {
    let mut out = Vec::with_capacity(headers.len() + 2);
    let named = Named::by_connection(headers);
    for (name, value) in headers {
        if is_forwarded_to_app(name.as_str()) && !named.contains(name) {
            out.push(Header {
                name: arena.copy(name.as_str().as_bytes()),
                value: arena.copy(value.as_bytes()),
            });
        }
    }
    let mut own =
        |name: &'static str, value| out.push(Header { name: Bytes::from_static(name.as_bytes()), value });
    // An empty `Host` would hide `SERVER_NAME` from the app.
    if !host.is_empty() {
        own("host", host.clone());
    }
    if let Some(length) = body_length {
        own("content-length", length.to_string().into());
    }
    out
}

/// The headers that say that a request is a handshake for a WebSocket. They are hop-by-hop, but ASGI servers pass them on, and
/// apps such as those of Socket.IO insist on them. Over HTTP/2, there are none of the client.
pub(crate) fn of_handshake() -> [Header; 2] {
    let header = |name, value| Header { name: Bytes::from_static(name), value: Bytes::from_static(value) };
    [header(b"connection", b"Upgrade"), header(b"upgrade", b"websocket")]
}

/// One allocation for all header names and values, with room for `more` bytes.
pub(crate) struct Arena(BytesMut);

impl Arena {
    pub(crate) fn for_headers(headers: &HeaderMap, more: usize) -> Self {
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        Self(BytesMut::with_capacity(bytes + more))
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

/// Whether a request header is forwarded. `Proxy` would become `HTTP_PROXY`, which libraries read as an
/// environment variable (httpoxy). A name with an underscore can't be told from the same name with a hyphen
/// in a WSGI environ.
fn is_forwarded_to_app(name: &str) -> bool {
    match name {
        // Set by frontd instead, if at all.
        "host" | "content-length" | "expect" | "forwarded" | "proxy" | "x-real-ip" | "x-request-id" => false,
        _ => !is_hop_by_hop(name) && !name.starts_with("x-forwarded-") && !name.contains('_'),
    }
}

/// What happens to the `Trailer` header of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailerNames {
    /// The client takes the trailers that it names.
    Keep,
    Omit,
}

/// The response headers for the client.
///
/// # Errors
///
/// Returns an error for the first name or value that HTTP doesn't allow.
pub(crate) fn for_client(headers: Vec<Header>, trailers: TrailerNames) -> Result<HeaderMap, http::Error> {
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    for Header { name, value } in headers {
        let name = HeaderName::from_bytes(&name)?;
        if !is_hop_by_hop(name.as_str()) || trailers == TrailerNames::Keep && name == TRAILER {
            out.append(name, HeaderValue::from_maybe_shared(value)?);
        }
    }
    Ok(out)
}

/// Whether a header is for one connection only (RFC 9110, section 7.6.1).
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The headers that `Connection` lists, which are hop-by-hop too.
struct Named<'a>(Option<Vec<&'a str>>);

impl<'a> Named<'a> {
    fn by_connection(headers: &'a HeaderMap) -> Self {
        let usual = |it: &HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"keep-alive") || it == "close";
        if headers.get_all(CONNECTION).iter().all(usual) {
            return Self(None);
        }
        let values = headers.get_all(CONNECTION).iter().filter_map(|it| it.to_str().ok());
        Self(Some(values.flat_map(|it| it.split(',')).map(str::trim).collect()))
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0.as_ref().is_some_and(|it| it.iter().any(|it| it.eq_ignore_ascii_case(name.as_str())))
    }
}

/// Whether the client announced a body. Otherwise none is waited for.
pub(crate) fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn check_app(headers: &[(&'static str, &'static str)], expected: &[(&str, &str)]) {
        let headers = map(headers);
        let mut arena = Arena::for_headers(&headers, 0);
        let out = for_app(&headers, &Bytes::from_static(b"a.example"), None, &mut arena);
        let own = [("host", "a.example")];
        let text = |it: &Bytes| String::from_utf8_lossy(it).into_owned();
        let out: Vec<_> = out.iter().map(|it| (text(&it.name), text(&it.value))).collect();
        let expected: Vec<_> = expected
            .iter()
            .chain(&own)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn headers_for_the_app() {
        check_app(&[("accept", "*/*"), ("cookie", "a=b")], &[("accept", "*/*"), ("cookie", "a=b")]);
        check_app(&[("connection", "keep-alive"), ("te", "trailers"), ("upgrade", "h2c")], &[]);
        check_app(&[("connection", "close, x-hop"), ("x-hop", "1"), ("x-stays", "1")], &[("x-stays", "1")]);
        check_app(&[("proxy", "http://evil"), ("x_forwarded_for", "spoof"), ("some_name", "x")], &[]);
        check_app(&[("x-forwarded-for", "spoof"), ("x-forwarded-prefix", "/x"), ("forwarded", "for=x")], &[]);
        check_app(&[("host", "other"), ("content-length", "5"), ("x-request-id", "mine")], &[]);
    }

    #[test]
    fn headers_for_the_client() {
        let header =
            |name: &'static str, value: &'static str| Header { name: name.into(), value: value.into() };
        let headers = vec![
            header("content-type", "text/plain"),
            header("set-cookie", "a=1"),
            header("set-cookie", "b=2"),
            header("connection", "close"),
            header("transfer-encoding", "chunked"),
            header("trailer", "x-checksum"),
        ];
        let out = for_client(headers.clone(), TrailerNames::Omit);
        let expected = map(&[("content-type", "text/plain"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        assert_eq!(out.unwrap(), expected);
        assert_eq!(for_client(headers, TrailerNames::Keep).unwrap()[TRAILER], "x-checksum");
        assert!(for_client(vec![header("bad name", "x")], TrailerNames::Omit).is_err());
        assert!(for_client(vec![header("x-split", "a\r\nb: c")], TrailerNames::Omit).is_err());
    }
}
