//! Checks a request target. Accepts what nginx accepts, and encodes what hyper's parser doesn't.
//!
//! Clients send `{`, `"`, `<`, `>` and non-ASCII bytes unencoded, although RFC 3986 requires encoding.
//! Spaces, control characters and `#` are refused, since parsers disagree about where a target that contains
//! them ends.

use http::Uri;

use crate::visit::violation::Violation;

/// Maximum length for hyper and the `http` crate, in bytes.
const LENGTH_MAX: usize = u16::MAX as usize - 1;

/// Refused.
const CONTROL: u8 = 1;
/// Refused.
const FRAGMENT: u8 = 2;
/// Non-ASCII: passed on if the whole target is UTF-8, encoded otherwise.
const HIGH: u8 = 4;
/// Encoded in a path or in a query.
const ODD: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte {
            0..=0x20 | 0x7f => CONTROL,
            0x23 => FRAGMENT,
            0x80.. => HIGH,
            0x22 | 0x3c | 0x3e | 0x60 => ODD,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Checks the target of a request with this method. Returns its replacement, if it must be encoded.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
    let classes = target.iter().fold(0, |classes, byte| classes | CLASSES[usize::from(*byte)]);
    if classes & CONTROL != 0 {
        return Err(Violation::Target);
    }
    if classes & FRAGMENT != 0 {
        return Err(Violation::Fragment);
    }
    let encoded = if classes == 0 { None } else { encode(target) };
    let written = encoded.as_deref().unwrap_or(target);
    if written.len() > LENGTH_MAX {
        return Err(Violation::TargetTooLong);
    }
    let is_good = match written.first() {
        Some(b'/') => true,
        Some(b'*') if written.len() == 1 => method == b"OPTIONS",
        // The absolute form, or that of CONNECT. Both are rare, so parsing them twice doesn't matter.
        Some(_) => Uri::try_from(written).is_ok(),
        None => false,
    };
    if is_good { Ok(encoded) } else { Err(Violation::Target) }
}

/// Percent-encodes the bytes that the `http` crate doesn't accept in a path or query. Returns `None` if there
/// are none.
fn encode(target: &[u8]) -> Option<Vec<u8>> {
    let takes_high = str::from_utf8(target).is_ok();
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let is_encoded = |(at, byte): (usize, u8)| match byte {
        b'<' | b'>' => true,
        b'`' => at < query,
        b'"' => at > query,
        0x80.. => !takes_high,
        _ => false,
    };
    let count = target.iter().copied().enumerate().filter(|it| is_encoded(*it)).count();
    if count == 0 {
        return None;
    }
    let mut encoded = Vec::with_capacity(target.len() + 2 * count);
    for (at, byte) in target.iter().copied().enumerate() {
        if is_encoded((at, byte)) {
            let digit = |it: u8| b"0123456789ABCDEF"[usize::from(it)];
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            encoded.push(byte);
        }
    }
    Some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn passes(target: &[u8], expected: &[u8]) {
        let encoded = check(b"GET", target).unwrap();
        assert_eq!(
            encoded.as_deref().unwrap_or(target).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn targets_that_nginx_accepts_are_accepted() {
        for ordinary in [
            "/",
            "/a/b?c=d&e=%20",
            "/{a}|^[]\\\"",
            "/a?{b}|^[]\\`",
            "/%zz?%",
            "//a",
            "http://a/b",
            "/\u{e4}?\u{e4}",
        ] {
            assert_eq!(check(b"GET", ordinary.as_bytes()), Ok(None), "{ordinary}");
        }
        passes(b"/<a>`?<b>\"`?\"", b"/%3Ca%3E%60?%3Cb%3E%22`?%22");
        passes(b"/\xe4?\xff", b"/%E4?%FF");
        passes(b"http://a/<b>", b"http://a/%3Cb%3E");
        assert_eq!(check(b"OPTIONS", b"*"), Ok(None));
        assert_eq!(check(b"CONNECT", b"a.example:443"), Ok(None));
    }

    #[test]
    fn targets_that_parsers_disagree_on_are_refused() {
        for (target, violation) in [
            (&b""[..], Violation::Target),
            (b"/a b", Violation::Target),
            (b"/a\tb", Violation::Target),
            (b"/a\0", Violation::Target),
            (b"/a\x7f", Violation::Target),
            (b"*", Violation::Target),
            (b"?a", Violation::Target),
            (b"http:///a", Violation::Target),
            (b"http://a b/", Violation::Target),
            (b"/a#b", Violation::Fragment),
            (b"/a?b#", Violation::Fragment),
            (&[b'/'; LENGTH_MAX + 1], Violation::TargetTooLong),
            (&[b'/', b'<'].repeat(LENGTH_MAX / 3), Violation::TargetTooLong),
        ] {
            assert_eq!(check(b"GET", target), Err(violation), "{}", target.escape_ascii());
        }
    }

    /// A target that passes must not be refused by hyper, which doesn't say why.
    #[test]
    fn accepted_targets_can_be_parsed() {
        let mut random = fastrand::Rng::with_seed(27);
        for _ in 0..20_000 {
            let mut target = vec![b'/'];
            target.extend((0..random.usize(0..12)).map(|_| random.u8(..)));
            let (bytes, random_byte) = (target.len(), random.u8(..));
            target[bytes / 2] = if bytes > 1 && random.bool() { b'?' } else { target[bytes / 2] };
            target.extend((random_byte > 0x7f).then_some("\u{e4}").into_iter().flat_map(str::bytes));
            if let Ok(encoded) = check(b"GET", &target) {
                let written = encoded.as_deref().unwrap_or(&target);
                let uri = Uri::try_from(written);
                assert!(
                    uri.is_ok_and(|it| it.to_string().as_bytes() == written),
                    "{}",
                    target.escape_ascii()
                );
            }
        }
    }
}
