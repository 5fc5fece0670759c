//! The host that a request is for (RFC 9110, section 7.2; RFC 9112, section 3.2).

use std::net::Ipv6Addr;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Version};

/// How long an authority may be to be kept, in bytes: a long name, and a port.
const KEPT_MAX: usize = 255 + 6;

/// The host and port of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    /// As received.
    pub(crate) text: Bytes,
    /// In lower case, without port and trailing dot. Empty if an HTTP/1.0 request has none.
    pub(crate) host: Bytes,
    pub(crate) port: Option<u16>,
}

/// Why a request names no valid host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// It is missing, repeated or malformed (RFC 9112, section 3.2).
    #[error("the request doesn't name a valid host")]
    Invalid,
    /// HTTP/2 only: `Host` differs from `:authority` (RFC 9113, section 8.3.1).
    #[error("the request names two different hosts")]
    Mismatch,
}

impl Authority {
    /// Takes the authority from the request target, otherwise from `Host`. Nearly all requests on a connection have the
    /// same one, so `first` keeps that of its first request.
    ///
    /// # Errors
    ///
    /// Returns an error if the authority is missing although the HTTP version requires it, or is invalid.
    pub(crate) fn of(head: &Parts, first: &OnceLock<Self>) -> Result<Self, AuthorityError> {
        let mut headers = head.headers.get_all(HOST).iter();
        let header = headers.next();
        if headers.next().is_some() {
            // Over HTTP/1.1, `head_guard` has already refused these.
            return Err(AuthorityError::Invalid);
        }
        let text = match (head.uri.authority(), header) {
            // Only CONNECT uses the authority form, `example.org` (RFC 9112, section 3.2.3).
            (Some(_), _) if head.uri.path_and_query().is_none() => return Err(AuthorityError::Invalid),
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(value)) => value.as_bytes(),
            (None, None) if head.version <= Version::HTTP_10 => b"",
            (None, None) => return Err(AuthorityError::Invalid),
        };
        let authority = match first.get() {
            Some(first) if first.text == text => first.clone(),
            _ => {
                let parsed = Self::parse(Bytes::copy_from_slice(text)).ok_or(AuthorityError::Invalid)?;
                if text.len() <= KEPT_MAX {
                    let _is_the_first = first.set(parsed.clone());
                }
                parsed
            }
        };
        match header {
            // Over HTTP/1.1, an authority in the target overrides `Host` (RFC 9112, section 3.2.2).
            Some(header) if head.version == Version::HTTP_2 && !authority.is_of(head, header) => {
                Err(AuthorityError::Mismatch)
            }
            _ => Ok(authority),
        }
    }

    /// Whether `Host` names the same authority (RFC 9113, section 8.3.1).
    fn is_of(&self, head: &Parts, host: &HeaderValue) -> bool {
        if self.text == host.as_bytes() {
            return true;
        }
        let default = if head.uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
        let host = Self::parse(Bytes::copy_from_slice(host.as_bytes()));
        host.is_some_and(|it| {
            it.host == self.host && it.port.unwrap_or(default) == self.port.unwrap_or(default)
        })
    }

    /// The host as text.
    pub(crate) fn host(&self) -> &str {
        // `parse` accepts nothing but ASCII.
        str::from_utf8(&self.host).unwrap_or_default()
    }

    fn parse(text: Bytes) -> Option<Self> {
        let written = std::str::from_utf8(&text).ok()?;
        let (host, port) = split(written)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().ok()?;
            let host = format!("[{address}]").into();
            return Some(Self { text, host, port });
        }
        let host = match host.bytes().any(|it| it.is_ascii_uppercase()) {
            true => host.to_ascii_lowercase().into(),
            false => text.slice(..host.len()),
        };
        Some(Self { text, host, port })
    }
}

fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(_) => text.split_at(text.find(']')? + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(number) if number.bytes().all(|it| it.is_ascii_digit()) => Some(number.parse().ok()?),
        _ => return None,
    };
    (host.len() <= 255 && (is_name(host.as_bytes()) || host.starts_with('['))).then_some((host, port))
}

/// Whether this is a reg-name (RFC 3986, section 3.2.2). Commas aren't allowed, since proxies use them to
/// join several `Host` lines into one.
fn is_name(host: &[u8]) -> bool {
    host.iter().enumerate().all(|(at, byte)| match byte {
        // No label is empty (RFC 1034, section 3.1), except the root's, after a trailing dot.
        b'.' => at > 0 && host[at - 1] != b'.',
        b'%' => host.get(at + 1..at + 3).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit)),
        b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => true,
        other => other.is_ascii_alphanumeric(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, expected: Option<(&str, Option<u16>)>) {
        let parsed = Authority::parse(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            parsed.as_ref().map(|it| (&*it.host, it.port)),
            expected.map(|(host, port)| (host.as_bytes(), port)),
            "{text}"
        );
    }

    #[test]
    fn each_request_has_its_own_authority() {
        let first = OnceLock::new();
        let long = format!("a.example:{:0>400}", 80);
        for (host, expected) in [
            (long.as_str(), Some(("a.example", Some(80)))),
            ("a b", None),
            ("A.example:80", Some(("a.example", Some(80)))),
            ("A.example:80", Some(("a.example", Some(80)))),
            ("a.example", Some(("a.example", None))),
            ("b.example:80", Some(("b.example", Some(80)))),
            ("", Some(("", None))),
        ] {
            let (head, ()) = http::Request::get("/").header(HOST, host).body(()).unwrap().into_parts();
            let found = Authority::of(&head, &first);
            assert_eq!(found.as_ref().ok().map(|it| (it.host(), it.port)), expected, "{host}");
            assert!(found.is_err() || found.is_ok_and(|it| it.text == host));
        }
        assert_eq!(first.get().map(|it| &*it.text), Some(&b"A.example:80"[..]), "bounded in size");
    }

    #[test]
    fn hosts() {
        check("example.org", Some(("example.org", None)));
        check("Example.ORG:8443", Some(("example.org", Some(8443))));
        check("example.org.", Some(("example.org", None)));
        check("example.org:", Some(("example.org", None)));
        check("[::1]:80", Some(("[::1]", Some(80))));
        check("[0:0:0:0:0:0:0:1]", Some(("[::1]", None)));
        check("[2001:DB8::1]", Some(("[2001:db8::1]", None)));
        check("a%2db", Some(("a%2db", None)));
        check("a%2Db.example:80", Some(("a%2db.example", Some(80))));
        check("a!$&'()*+;=b", Some(("a!$&'()*+;=b", None)));
        check("", Some(("", None)));
        for bad in [
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:1:2",
            "[::1",
            "[::1]x",
            "a:99999",
            "a,b",
            "é.example",
            "a%",
            "a%2",
            "a%zz",
            "[a]",
            "[::1",
            "[]",
            "[1.2.3.4]",
            "a[::1]",
            ".",
            "..",
            ".example.org",
            "a..example.org",
            "example.org..",
        ] {
            check(bad, None);
        }
    }
}
