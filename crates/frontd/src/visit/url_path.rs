//! Normalizes URL paths (RFC 3986, section 6.2.2) for routing, apps and static files.
//!
//! `/%7Ejoe/` and `/~joe/` are the same path, as are `/%40joe/` and `/@joe/`, and `/a/./b`, `/a/x/../b` and
//! `/a/b`. Routing, the app and the disk all get the same form: if they interpreted a path differently,
//! access rules could be bypassed.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;
use memchr::memchr2_iter;

/// The normalized path is longer than a URI can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Normalizes the path of `uri`. Doesn't allocate if it is normalized already.
///
/// # Errors
///
/// Returns an error if the path becomes too long. `uri` is unchanged then.
pub(crate) fn normalize(uri: &mut Uri) -> Result<(), TooLong> {
    let Cow::Owned(path) = normal(uri.path()) else { return Ok(()) };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    // All its characters are valid: only its length can be refused.
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| TooLong)?);
    *uri = Uri::from_parts(parts).map_err(|_| TooLong)?;
    Ok(())
}

/// Decodes what needs no encoding, writes the other digits in upper case, and removes dot segments.
fn normal(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path);
    let mut out = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            "." => {}
            other => {
                out.push('/');
                out.push_str(other);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

fn is_normal(path: &[u8]) -> bool {
    memchr2_iter(b'%', b'.', path).all(|at| match path[at] {
        b'%' => encoded(&path[at + 1..])
            .is_none_or(|byte| !is_plain(byte) && !path[at + 1..at + 3].iter().any(u8::is_ascii_lowercase)),
        _ => {
            let begins = at > 0 && path[at - 1] == b'/';
            let rest = &path[at + 1..];
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            !(begins && matches!(rest.first(), None | Some(b'/')))
        }
    })
}

/// Decodes each encoded byte once. A `%` that isn't followed by two digits is encoded, so that it can't form
/// a new encoding with what follows.
fn decode(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path;
    while let Some((plain, after)) = rest.split_once('%') {
        out.push_str(plain);
        rest = after;
        match encoded(after.as_bytes()) {
            Some(byte) if is_plain(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            Some(_) => {
                out.push('%');
                out.extend(after.chars().take(2).map(|it| it.to_ascii_uppercase()));
                rest = &after[2..];
            }
            None => out.push_str("%25"),
        }
    }
    out.push_str(rest);
    out
}

/// The byte that the first two hexadecimal digits of `text` encode.
fn encoded(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|it| char::from(*it).to_digit(16));
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// Characters that are decoded, and can be part of an app's mount path: the unreserved ones (RFC 3986,
/// section 2.3), and those without a meaning of their own in a path. nginx matches them decoded too.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;

    use super::*;

    #[test]
    fn normal_forms() {
        for (path, expected) in [
            ("/%7Ejoe/x", "/~joe/x"),
            ("/%7ejoe/%78", "/~joe/x"),
            ("/%73tatic/", "/static/"),
            ("/a%2fb%3f", "/a%2Fb%3F"),
            ("/%c3%a4", "/%C3%A4"),
            ("/a/./b", "/a/b"),
            ("/a/x/../b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../b", "/b"),
            ("/a//../b", "/a/b"),
            ("//a/../b", "//b"),
            ("/%2e", "/"),
            // Only decoded once.
            ("/%252e%252e/a/.", "/%252e%252e/a/"),
            ("/%%32e%%32e/a", "/%252e%252e/a"),
            ("/%%37E", "/%257E"),
            ("/\u{e4}/%7e", "/\u{e4}/~"),
            // These can be part of a mount path: `/@admin` is one app, however it is requested.
            ("/%40admin/%3a", "/@admin/:"),
            ("/%21%24%26%27%28%29%2B%2C%3B%3D%3A%40", "/!$&'()+,;=:@"),
            ("/a/..%3b/b", "/a/..;/b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
        for path in [
            "/",
            "/a.b/.c/..d/...",
            "/a//b",
            "/%20%2F%C3",
            "/100%",
            "/%zz",
            "/%7",
            "/..;/",
            "/a/..%2Fb",
            "/.well-known/x",
        ] {
            assert!(matches!(normal(path), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn a_uri_keeps_everything_but_its_path() {
        for (uri, expected) in [
            ("/%7Ea/../b?c=%7E&d=..", "/b?c=%7E&d=.."),
            ("http://a.example:80/x/./y?", "http://a.example:80/x/y?"),
            ("/plain?%7e", "/plain?%7e"),
        ] {
            let mut uri = uri.parse().unwrap();
            normalize(&mut uri).unwrap();
            assert_eq!(uri.to_string(), expected);
        }
    }

    /// A lone `%` is encoded, which takes three bytes.
    #[test]
    fn a_path_that_becomes_too_long_is_refused() {
        let path = format!("/x/./{}", "%".repeat(22_000));
        for prefix in ["", "http://a.example"] {
            let mut uri = format!("{prefix}{path}").parse().unwrap();
            assert_eq!(normalize(&mut uri), Err(TooLong));
            let mut fits = format!("{prefix}/x/./{}", "%".repeat(21_000)).parse().unwrap();
            assert_eq!(normalize(&mut fits), Ok(()));
            assert_eq!(fits.path(), format!("/x/{}", "%25".repeat(21_000)));
        }
    }

    /// A path built from the parts of traversal attacks.
    fn hostile(random: &mut fastrand::Rng) -> String {
        const PIECES: &[&str] = &[
            "/", "/", "//", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", "%25", "%", "%%32e", "2e",
            "a", "static", "%00", ";", "%3b", "%40", "%c0%ae", "\u{e4}", "%7E", "~", "%73",
        ];
        let count = random.usize(1..14);
        let pieces = (0..count).map(|_| PIECES[random.usize(..PIECES.len())]);
        std::iter::once("/").chain(pieces).collect()
    }

    /// Whether a reader that decodes the path before splitting it, the worst case, finds a `..` segment.
    fn climbs(path: &[u8]) -> bool {
        path.split(|byte| *byte == b'/').any(|it| it == b"..")
    }

    #[test]
    fn no_path_escapes_and_nothing_is_decoded_twice() {
        let mut random = fastrand::Rng::with_seed(28);
        for _ in 0..50_000 {
            let path = hostile(&mut random);
            let normal = normal(&path).into_owned();
            assert!(normal.starts_with('/'), "{path} {normal}");
            assert!(!normal.split('/').any(|it| matches!(it, "." | "..")), "{path} {normal}");
            assert_eq!(super::normal(&normal), normal, "{path}");
            let decoded: Vec<u8> = percent_decode_str(&normal).collect();
            // Only behind an encoded slash, which static files refuse.
            assert!(!climbs(&decoded) || normal.to_ascii_lowercase().contains("%2f"), "{path} {normal}");
            // Without dot segments, the decoded path is exactly what the client sent.
            if !climbs(&percent_decode_str(&path).collect::<Vec<_>>())
                && !path.contains("/.")
                && !path.contains("/%2")
            {
                assert_eq!(decoded, percent_decode_str(&path).collect::<Vec<_>>(), "{path} {normal}");
            }
        }
    }
}
