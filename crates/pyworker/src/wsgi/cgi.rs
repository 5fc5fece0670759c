//! Converts a request to the variables of CGI (RFC 3875, 4.1) and PEP 3333, as far as that needs no Python.

use std::borrow::Cow;

/// The parts of a request target that an app sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// `SCRIPT_NAME`.
    pub(crate) script_name: &'a [u8],
    /// `PATH_INFO`, percent-decoded.
    pub(crate) path_info: Cow<'a, [u8]>,
    /// `QUERY_STRING`, unchanged.
    pub(crate) query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Splits a target in origin form at the app's mount point. A path outside of it, which frontd shouldn't
    /// send here, is passed to the app as a whole.
    pub(crate) fn split(target: &'a [u8], mount: &'a [u8]) -> Self {
        let (path, query) = match memchr::memchr(b'?', target) {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &[][..]),
        };
        let path = percent_decode(path);
        let below = path.strip_prefix(mount).is_some_and(|it| it.is_empty() || it[0] == b'/');
        let (script_name, cut) = if below { (mount, mount.len()) } else { (&[][..], 0) };
        let path_info = match path {
            Cow::Borrowed(path) => Cow::Borrowed(&path[cut..]),
            Cow::Owned(mut path) => Cow::Owned(path.split_off(cut)),
        };
        Self { script_name, path_info, query }
    }
}

/// Decodes `%41`. Invalid percent-encodings are kept.
fn percent_decode(text: &[u8]) -> Cow<'_, [u8]> {
    // Most paths have none, and `memchr` finds that out faster than `percent_encoding`.
    match memchr::memchr(b'%', text) {
        None => Cow::Borrowed(text),
        Some(_) => percent_encoding::percent_decode(text).into(),
    }
}

/// The environ's key of a header: `accept-language` is `HTTP_ACCEPT_LANGUAGE`.
pub(crate) fn variable(header: &str) -> String {
    let mut name = String::with_capacity(5 + header.len());
    name.push_str("HTTP_");
    name.extend(header.chars().map(|it| if it == '-' { '_' } else { it.to_ascii_uppercase() }));
    name
}

/// The separator between the values of a repeated header (RFC 9110, 5.2; RFC 9113, 8.2.3).
pub(crate) fn separator(header: &[u8]) -> &'static str {
    if header == b"cookie" { "; " } else { ", " }
}

/// `SERVER_PROTOCOL` of a version such as 11.
pub(crate) fn protocol(version: u32) -> &'static str {
    match version {
        10 => "HTTP/1.0",
        20 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Decodes bytes as ISO 8859-1, which is how PEP 3333 represents them in strings.
pub(crate) fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (target, mount, script_name, path_info, query) in [
            (&b"/"[..], "", &b""[..], &b"/"[..], &b""[..]),
            (b"/a/b?c=%20&d", "", b"", b"/a/b", b"c=%20&d"),
            (b"/a?b?c", "", b"", b"/a", b"b?c"),
            (b"/blog/post", "/blog", b"/blog", b"/post", b""),
            (b"/blog", "/blog", b"/blog", b"", b""),
            (b"/blog?x", "/blog", b"/blog", b"", b"x"),
            (b"/b%6cog/%C3%A9", "/blog", b"/blog", b"/\xC3\xA9", b""),
            (b"/blogger", "/blog", b"", b"/blogger", b""),
            (b"/a%2Fb%2", "", b"", b"/a/b%2", b""),
            (b"/%zz%%41%", "", b"", b"/%zz%A%", b""),
            (b"/%00%ff", "", b"", b"/\x00\xff", b""),
            (b"*", "", b"", b"*", b""),
        ] {
            let expected = Target { script_name, path_info: Cow::Borrowed(path_info), query };
            assert_eq!(Target::split(target, mount.as_bytes()), expected, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn names_and_values() {
        assert_eq!(variable("x-request-id"), "HTTP_X_REQUEST_ID");
        assert_eq!((separator(b"cookie"), separator(b"accept")), ("; ", ", "));
        assert_eq!((protocol(10), protocol(11), protocol(20)), ("HTTP/1.0", "HTTP/1.1", "HTTP/2.0"));
        for (bytes, text) in
            [(&b"abc"[..], "abc"), (b"\xe9", "é"), ("é".as_bytes(), "Ã©"), (b"\x00\xff", "\0ÿ")]
        {
            assert_eq!(latin1(bytes), text);
        }
    }
}
