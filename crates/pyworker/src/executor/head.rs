//! Validates the status and headers of a response of the app.

use api::runner::{File, Header, file};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// The largest total size of names and values, in bytes. More is a bug of the app.
const SIZE_LIMIT: usize = 128 << 10;

/// How much of a wrong text is shown, in characters.
const SHOWN: usize = 100;

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// From 200 to 999.
    pub(crate) status: u16,
    /// The reason phrase, if it isn't the default one of the status.
    pub(crate) reason: Bytes,
    /// Names are in lower case. Hop-by-hop headers are excluded.
    pub(crate) headers: Vec<Header>,
    /// The value of the header, which is also in `headers`.
    pub(crate) content_length: Option<u64>,
    /// The file to send instead of the body. Its header is meant for frontd, and isn't in `headers`.
    pub(crate) file: Option<Box<File>>,
}

/// Why a head is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// Not a valid status.
    #[error("status {0:?} is not three digits from 200 to 999, a space and a reason")]
    Status(String),
    /// Not a token (RFC 9110, 5.1).
    #[error("header name {0:?} is invalid")]
    Name(String),
    /// Control characters, or characters outside of ISO 8859-1.
    #[error("the value of header {0:?} has an invalid character")]
    Value(String),
    /// Not a number, or different numbers.
    #[error("Content-Length {0:?} is not one number")]
    ContentLength(String),
    /// The head is too large.
    #[error("the headers have more than {SIZE_LIMIT} bytes")]
    TooLarge,
}

impl From<HeadError> for PyErr {
    fn from(error: HeadError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// Builds a head, header by header.
#[derive(Debug)]
pub(crate) struct HeadBuilder {
    head: Head,
    /// All names and values in one allocation.
    text: BytesMut,
    size: usize,
    /// The response may have a `Trailer` header.
    has_trailers: bool,
}

impl HeadBuilder {
    /// Starts with the status, such as `200 OK`.
    pub(crate) fn new(status: &str) -> Result<Self, HeadError> {
        let (number, reason) =
            parse_status(status).ok_or_else(|| HeadError::Status(status.chars().take(SHOWN).collect()))?;
        let mut builder = Self::with_status(number);
        if !reason.is_empty() && usual_reason(number) != Some(reason) {
            builder.size += reason.len();
            // A phrase that can't be sent is dropped.
            builder.head.reason = latin1(reason).unwrap_or_default();
        }
        Ok(builder)
    }

    /// Starts with the number of the status.
    pub(crate) fn with_number(status: u16) -> Result<Self, HeadError> {
        match status {
            200..=999 => Ok(Self::with_status(status)),
            _ => Err(HeadError::Status(status.to_string())),
        }
    }

    /// Starts an interim response (RFC 9110, 15.2).
    pub(crate) fn interim() -> Self {
        Self::with_status(103)
    }

    /// Keeps the `Trailer` header, since trailers will follow the body.
    pub(crate) fn announce_trailers(&mut self) {
        self.has_trailers = true;
    }

    fn with_status(status: u16) -> Self {
        let headers = Vec::with_capacity(8);
        let head = Head { status, reason: Bytes::new(), headers, content_length: None, file: None };
        Self { head, text: BytesMut::with_capacity(256), size: 0, has_trailers: false }
    }

    /// Adds a header of strings, which represent bytes as PEP 3333 says. Returns it if it is a hop-by-hop header,
    /// which an app must not send.
    pub(crate) fn header<'a>(
        &mut self,
        name: &'a str,
        value: &str,
    ) -> Result<Option<HopByHop<'a>>, HeadError> {
        if value.is_ascii() {
            return self.raw_header(name.as_bytes(), value.as_bytes());
        }
        let wrong = || HeadError::Value(shortened(name.as_bytes()));
        self.raw_header(name.as_bytes(), &latin1(value).ok_or_else(wrong)?)
    }

    /// Adds a header. Returns it if it is a hop-by-hop header, which an app must not send.
    pub(crate) fn raw_header<'a>(
        &mut self,
        name: &'a [u8],
        value: &[u8],
    ) -> Result<Option<HopByHop<'a>>, HeadError> {
        self.size += name.len() + value.len();
        if self.size > SIZE_LIMIT {
            return Err(HeadError::TooLarge);
        }
        let token = token(name).ok_or_else(|| HeadError::Name(shortened(name)))?;
        if is_hop_by_hop(token) && !(self.has_trailers && token.eq_ignore_ascii_case("trailer")) {
            return Ok(Some(HopByHop(token)));
        }
        let name = self.lower_case(token);
        let value = self.value(value).ok_or_else(|| HeadError::Value(name.escape_ascii().to_string()))?;
        match &*name {
            b"content-length" => {
                if let Some(value) = self.content_length(&value)? {
                    self.head.headers.push(Header { name, value });
                }
                return Ok(None);
            }
            b"x-sendfile" => return Ok(self.file(file::Name::Path(value))),
            b"x-accel-redirect" => return Ok(self.file(file::Name::Location(value))),
            _ => {}
        }
        self.head.headers.push(Header { name, value });
        Ok(None)
    }

    /// Returns the complete head.
    pub(crate) fn build(self) -> Head {
        self.head
    }

    fn file(&mut self, name: file::Name) -> Option<HopByHop<'static>> {
        self.head.file = Some(Box::new(File { name: Some(name), part: None }));
        None
    }

    fn lower_case(&mut self, name: &str) -> Bytes {
        self.text.extend_from_slice(name.as_bytes());
        self.text.make_ascii_lowercase();
        self.text.split().freeze()
    }

    fn value(&mut self, value: &[u8]) -> Option<Bytes> {
        let is_space = |it: &u8| matches!(it, b' ' | b'\t');
        let start = value.iter().position(|it| !is_space(it)).unwrap_or(value.len());
        let end = value.iter().rposition(|it| !is_space(it)).map_or(start, |it| it + 1);
        self.text.extend_from_slice(&value[start..end]);
        let text = self.text.split().freeze();
        let allowed = |it: &u8| *it >= b' ' && *it != 0x7f || *it == b'\t';
        text.iter().all(allowed).then_some(text)
    }

    /// Parses a length, and returns the value to send, or None if it was already set. The same number may be
    /// repeated, in another header or after a comma (RFC 9110, 8.6).
    fn content_length(&mut self, value: &Bytes) -> Result<Option<Bytes>, HeadError> {
        let wrong = || HeadError::ContentLength(value.escape_ascii().to_string());
        let mut parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let first = parts.next().ok_or_else(wrong)?;
        let text = str::from_utf8(first).ok().filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
        let length = text.and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
        if parts.any(|it| it != first) {
            return Err(wrong());
        }
        match self.head.content_length.replace(length) {
            None => Ok(Some(value.slice_ref(first))),
            Some(before) if before == length => Ok(None),
            Some(_) => Err(wrong()),
        }
    }
}

/// The name of a hop-by-hop header (RFC 9110, 7.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HopByHop<'a>(pub(crate) &'a str);

/// Splits a status into number and reason phrase.
fn parse_status(status: &str) -> Option<(u16, &str)> {
    let (digits, rest) = status.split_at_checked(3)?;
    let number = digits.bytes().all(|it| it.is_ascii_digit()).then(|| digits.parse().ok())??;
    let reason = if rest.is_empty() { rest } else { rest.strip_prefix(' ')? };
    let good = (200..=999).contains(&number) && !reason.contains(char::is_control);
    good.then(|| (number, reason.trim_matches(' ')))
}

fn usual_reason(status: u16) -> Option<&'static str> {
    StatusCode::from_u16(status).ok()?.canonical_reason()
}

/// Encodes characters up to 255 as ISO 8859-1, which is how PEP 3333 represents bytes in strings.
fn latin1(text: &str) -> Option<Bytes> {
    text.chars().map(|it| u8::try_from(u32::from(it)).ok()).collect()
}

/// The name, if it is a token.
fn token(name: &[u8]) -> Option<&str> {
    let allowed = |it: u8| {
        it.is_ascii_alphanumeric()
            || matches!(
                it,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
    };
    let is_token = !name.is_empty() && name.iter().copied().all(allowed);
    str::from_utf8(name).ok().filter(|_| is_token)
}

fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// The beginning of a name, for a log line.
fn shortened(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).into_owned()
}

/// Whether a response with this status has a body (RFC 9110, 6.4.1).
pub(crate) fn has_body(status: u16) -> bool {
    status != 204 && status != 304
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: &str, headers: &[(&str, &str)]) -> Result<Head, HeadError> {
        let mut builder = HeadBuilder::new(status)?;
        for (name, value) in headers {
            builder.header(name, value)?;
        }
        Ok(builder.build())
    }

    #[test]
    fn statuses() {
        for (status, expected, reason) in [
            ("200 OK", 200, ""),
            ("204", 204, ""),
            ("404 Not Found", 404, ""),
            ("404 Nothing here ", 404, "Nothing here"),
            ("499 Gone Away", 499, "Gone Away"),
            ("599 ", 599, ""),
            ("600 Beyond", 600, "Beyond"),
            ("999 \u{e9}", 999, "\u{e9}"),
            ("500 €", 500, ""),
        ] {
            let head = head(status, &[]).unwrap();
            let actual: String = head.reason.iter().copied().map(char::from).collect();
            assert_eq!((head.status, &*actual), (expected, reason), "{status}");
        }
        for bad in [
            "",
            "20",
            "2000",
            "OK",
            "99 x",
            "100 Continue",
            "101 Switching",
            "+20 x",
            "200OK",
            "200 \r\n",
            "２００",
        ] {
            assert!(head(bad, &[]).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn headers() {
        let head = head("200 OK", &[("Content-Type", " text/html "), ("X-É".trim_end_matches('É'), "é\t1")])
            .unwrap();
        let pairs: Vec<_> = head.headers.iter().map(|it| (&*it.name, &*it.value)).collect();
        assert_eq!(pairs, [(&b"content-type"[..], &b"text/html"[..]), (b"x-", b"\xe9\t1")]);
    }

    #[test]
    fn invalid_headers_are_refused() {
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("é", "x"),
            ("a\r\nb", "x"),
            ("a", "x\r\ny: z"),
            ("a", "x\ny"),
            ("a", "\0"),
            ("a", "€"),
            ("a", "\x7f"),
            ("content-length", "1x"),
            ("content-length", "-1"),
            ("content-length", "+1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
            ("content-length", "1, 2"),
            ("content-length", "1,"),
            ("a", &"x".repeat(SIZE_LIMIT)),
        ] {
            assert!(head("200 OK", &[(name, value)]).is_err(), "{name:?}: {value:?} was taken");
        }
        assert!(head("200 OK", &[("Content-Length", "1"), ("content-length", "2")]).is_err());
    }

    #[test]
    fn the_same_length_may_be_repeated() {
        for lengths in [&["12", "12"][..], &["12, 12"], &["12 ,12", "12"]] {
            let lengths: Vec<_> = lengths.iter().map(|it| ("Content-Length", *it)).collect();
            let head = head("200 OK", &lengths).unwrap();
            let actual: Vec<_> = head.headers.iter().map(|it| &*it.value).collect();
            assert_eq!((head.content_length, &*actual), (Some(12), &[&b"12"[..]][..]), "{lengths:?}");
        }
    }

    #[test]
    fn hop_by_hop_headers_are_returned() {
        let mut builder = HeadBuilder::new("200 OK").unwrap();
        assert_eq!(builder.header("Transfer-Encoding", "chunked"), Ok(Some(HopByHop("Transfer-Encoding"))));
        assert_eq!(builder.header("Content-Length", "12"), Ok(None));
        let head = builder.build();
        assert_eq!((head.headers.len(), head.content_length), (1, Some(12)));
    }

    #[test]
    fn a_sendfile_header_is_not_part_of_the_response() {
        let path = || file::Name::Path(Bytes::from_static(b"/srv/a b"));
        let location = || file::Name::Location(Bytes::from_static(b"/protected/a%20b"));
        for (header, value, name) in
            [("X-Sendfile", "/srv/a b", path()), ("X-Accel-Redirect", "/protected/a%20b", location())]
        {
            let head = head("200 OK", &[(header, value), ("content-type", "text/plain")]).unwrap();
            assert_eq!(head.file.and_then(|it| it.name), Some(name));
            assert_eq!(head.headers.len(), 1);
        }
    }

    #[test]
    fn bodies() {
        assert!(has_body(200) && has_body(404));
        assert!(!has_body(204) && !has_body(304));
    }
}
