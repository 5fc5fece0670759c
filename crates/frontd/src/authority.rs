//! The host that a request is for (RFC 9110, 7.2; RFC 9112, 3.2).

use bytes::Bytes;
use http::Version;
use http::header::HOST;
use http::request::Parts;

use crate::replies::Reply;

/// The host and port that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// As it came.
    pub(crate) text: Bytes,
    /// In lower case, without port and final dot. Empty where HTTP/1.0 named none.
    pub(crate) host: Bytes,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// From the request's target, or else its `Host`.
    ///
    /// # Errors
    /// When there is none, though the version demands it, or one that is no host.
    pub(crate) fn of(head: &Parts) -> Result<Self, Reply> {
        let header = head.headers.get(HOST);
        let text: Bytes = match (head.uri.authority(), header) {
            // A host alone, `GET example.org`, is for CONNECT (RFC 9112, 3.2.3).
            (Some(_), _) if head.uri.path_and_query().is_none() => return Err(Reply::BadHost),
            (Some(authority), _) => Bytes::copy_from_slice(authority.as_str().as_bytes()),
            (None, Some(value)) => Bytes::copy_from_slice(value.as_bytes()),
            (None, None) if head.version <= Version::HTTP_10 => Bytes::new(),
            (None, None) => return Err(Reply::BadHost),
        };
        Self::parse(text).ok_or(Reply::BadHost)
    }

    /// The host as text.
    pub(crate) fn host(&self) -> &str {
        // It is ASCII.
        str::from_utf8(&self.host).unwrap_or_default()
    }

    fn parse(text: Bytes) -> Option<Self> {
        let written = std::str::from_utf8(&text).ok()?;
        let (host, port) = split(written)?;
        let host = host.strip_suffix('.').unwrap_or(host);
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
    let allowed =
        |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~' | b'[' | b']' | b':');
    (host.len() <= 255 && host.bytes().all(allowed)).then_some((host, port))
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
    fn hosts() {
        check("example.org", Some(("example.org", None)));
        check("Example.ORG:8443", Some(("example.org", Some(8443))));
        check("example.org.", Some(("example.org", None)));
        check("example.org:", Some(("example.org", None)));
        check("[::1]:80", Some(("[::1]", Some(80))));
        check("", Some(("", None)));
        for bad in ["a b", "a/b", "a@b", "a:b", "a:1:2", "[::1", "[::1]x", "a:99999", "a,b", "é.example"] {
            check(bad, None);
        }
    }
}
