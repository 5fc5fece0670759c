//! Sends a client to the worker that served it before (`sticky` of the app's file), by a cookie.
//!
//! The cookie has the random number of a worker's process. It identifies the process only to frontd, and reveals neither
//! its name nor its pid. All shards and all frontds know the same number.

use std::fmt::Write as _;
use std::num::NonZeroU64;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// The cookie's name.
const NAME: &str = "imperium_worker";
/// How many digits its value has.
const DIGITS: usize = 16;

/// Which worker an app's clients are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// The least busy one.
    None,
    /// The one that their cookie names.
    Cookie,
}

impl Affinity {
    /// From the routing table.
    pub(crate) fn of(sticky: bool) -> Self {
        if sticky { Self::Cookie } else { Self::None }
    }

    /// The worker process that a request should go to.
    pub(super) fn preferred(self, headers: &HeaderMap) -> Option<NonZeroU64> {
        match self {
            Self::None => None,
            Self::Cookie => in_cookie(headers),
        }
    }
}

/// The value of the first cookie of that name: clients send the one of the most specific path first (RFC 6265,
/// section 5.4), so it is that of this app, if there is one.
fn in_cookie(headers: &HeaderMap) -> Option<NonZeroU64> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
    let mut pairs = fields.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    let value = pairs.find(|(name, _)| *name == NAME)?.1;
    let is_valid = value.len() == DIGITS && value.bytes().all(|it| it.is_ascii_hexdigit());
    NonZeroU64::new(u64::from_str_radix(value, 16).ok().filter(|_| is_valid)?)
}

/// Adds the cookie for a worker process to a response. `mount` is the app's path without a trailing slash.
pub(super) fn set_cookie(headers: &mut HeaderMap, instance: u64, mount: &[u8], is_tls: bool) {
    let mount = std::str::from_utf8(mount).unwrap_or_default();
    let path = if mount.is_empty() { "/" } else { mount };
    let mut cookie = format!("{NAME}={instance:0DIGITS$x}; Path={path}; HttpOnly; SameSite=Lax");
    if is_tls {
        let _infallible = write!(cookie, "; Secure");
    }
    if let Ok(cookie) = HeaderValue::from_maybe_shared(bytes::Bytes::from(cookie)) {
        headers.append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred(fields: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        Affinity::Cookie.preferred(&headers).map(NonZeroU64::get)
    }

    #[test]
    fn the_cookie_that_is_set_is_understood() {
        let mut headers = HeaderMap::new();
        set_cookie(&mut headers, 0xAB, b"/blog", false);
        set_cookie(&mut headers, u64::MAX, b"", true);
        let set: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|it| it.to_str().unwrap()).collect();
        let expected = [
            "imperium_worker=00000000000000ab; Path=/blog; HttpOnly; SameSite=Lax",
            "imperium_worker=ffffffffffffffff; Path=/; HttpOnly; SameSite=Lax; Secure",
        ];
        assert_eq!(set, expected);
        let sent: Vec<_> = set.iter().map(|it| it.split(';').next().unwrap()).collect();
        assert_eq!((preferred(&[sent[0]]), preferred(&[sent[1]])), (Some(0xAB), Some(u64::MAX)));
    }

    #[test]
    fn cookies_of_clients() {
        let one = "imperium_worker=0000000000000001";
        assert_eq!(preferred(&[&format!("a=b; {one}; c=d")]), Some(1));
        assert_eq!(preferred(&["a=b", one]), Some(1), "HTTP/2 may split them");
        assert_eq!(preferred(&[&format!("{one}; imperium_worker=0000000000000002")]), Some(1));
        for wrong in [
            "",
            "a=b",
            "imperium_worker",
            "imperium_worker=",
            "imperium_worker=1",
            "imperium_worker=+000000000000001",
            "imperium_worker=0000000000000000",
            "imperium_worker=00000000000000010",
            "imperium_worker=000000000000000g",
            "imperium_workers=0000000000000001",
        ] {
            assert_eq!(preferred(&[wrong]), None, "{wrong}");
        }
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append(COOKIE, HeaderValue::from_static(one));
        assert_eq!(Affinity::Cookie.preferred(&headers).map(NonZeroU64::get), Some(1));
        assert_eq!(Affinity::None.preferred(&headers), None);
    }
}
