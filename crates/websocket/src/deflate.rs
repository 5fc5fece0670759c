//! Negotiates permessage-deflate (RFC 7692).

mod contexts;

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, SEC_WEBSOCKET_EXTENSIONS};

pub(crate) use self::contexts::{Compressor, Corrupt, Inflated, Inflater};

const NAME: &str = "permessage-deflate";

/// The windows that are used if the client allows it: 4 KiB instead of 32 KiB, as the Python library `websockets`
/// does. Messages are mostly small, and memory is what limits the number of sockets.
const WINDOW_BITS: u8 = 12;

/// The smallest window that zlib supports without a header.
const WINDOW_BITS_MIN: u8 = 9;

/// The window of clients that don't say.
const WINDOW_BITS_MAX: u8 = 15;

/// The first acceptable offer of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// Each message uses what came before.
    takeover: bool,
    client_takeover: bool,
    server_bits: u8,
    /// Only if the client supports the parameter.
    client_bits: Option<u8>,
}

impl Offer {
    /// The first offer that the server can accept.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|it| it.to_str().ok());
        values.flat_map(|it| it.split(',')).find_map(Self::parse)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut offer = Self::default();
        let mut seen = [false; 4];
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            let at = match (name, value) {
                ("server_no_context_takeover", None) => {
                    offer.server_no_context_takeover = true;
                    0
                }
                ("client_no_context_takeover", None) => {
                    offer.client_no_context_takeover = true;
                    1
                }
                ("server_max_window_bits", Some(bits)) => {
                    // zlib silently uses 9 for 8.
                    offer.server_bits = Some(parse_bits(bits).filter(|it| *it >= WINDOW_BITS_MIN)?);
                    2
                }
                ("client_max_window_bits", bits) => {
                    offer.client_bits = Some(bits.map_or(Some(WINDOW_BITS_MAX), parse_bits)?);
                    3
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[at], true) {
                return None;
            }
        }
        Some(offer)
    }

    /// Accepts the offer. Without `takeover`, neither side keeps memory between messages.
    #[must_use]
    pub fn accept(self, takeover: bool) -> Deflate {
        Deflate {
            takeover: takeover && !self.server_no_context_takeover,
            client_takeover: takeover && !self.client_no_context_takeover,
            server_bits: self.server_bits.unwrap_or(WINDOW_BITS).min(WINDOW_BITS),
            client_bits: self.client_bits.map(|it| it.min(WINDOW_BITS)),
        }
    }
}

/// Window bits without leading zeros.
fn parse_bits(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|it| is_plain && (8..=WINDOW_BITS_MAX).contains(it))
}

impl Deflate {
    /// The header of the response, and its value.
    #[must_use]
    pub fn header(&self) -> (HeaderName, String) {
        let mut value = NAME.to_owned();
        if !self.takeover {
            value += "; server_no_context_takeover";
        }
        if !self.client_takeover {
            value += "; client_no_context_takeover";
        }
        let _ = write!(value, "; server_max_window_bits={}", self.server_bits);
        if let Some(bits) = self.client_bits {
            let _ = write!(value, "; client_max_window_bits={bits}");
        }
        (SEC_WEBSOCKET_EXTENSIONS, value)
    }

    /// The bytes that the contexts of a socket take between messages, once both are in use.
    #[must_use]
    pub fn memory(&self) -> u64 {
        // zlib's table of hashes, its buffers, and three windows; and for the client, the decoder's tables.
        const COMPRESSOR: u64 = 152 << 10;
        const INFLATER: u64 = 12 << 10;
        let compressor = if self.takeover { COMPRESSOR + (6 << self.server_bits) } else { 0 };
        let inflater = if self.client_takeover { INFLATER + (1 << self.inflater_bits()) } else { 0 };
        compressor + inflater
    }

    pub(crate) fn compressor(&self) -> Compressor {
        Compressor::new(self.server_bits, self.takeover)
    }

    pub(crate) fn inflater(&self) -> Inflater {
        Inflater::new(self.inflater_bits(), self.client_takeover)
    }

    fn inflater_bits(&self) -> u8 {
        self.client_bits.unwrap_or(WINDOW_BITS_MAX).max(WINDOW_BITS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepted(offers: &[&'static str], takeover: bool) -> Option<String> {
        let headers =
            offers.iter().map(|it| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(it))).collect();
        Some(Offer::of(&headers)?.accept(takeover).header().1)
    }

    #[test]
    fn the_first_acceptable_offer_is_taken() {
        let full = "permessage-deflate; server_max_window_bits=12";
        for (offers, expected) in [
            (&["permessage-deflate"][..], Some(full.to_owned())),
            (
                &["permessage-deflate; client_max_window_bits"],
                Some(format!("{full}; client_max_window_bits=12")),
            ),
            (
                &["permessage-deflate;client_max_window_bits=\"10\" ; server_max_window_bits=9"],
                Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10".to_owned()),
            ),
            (
                &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12".to_owned()),
            ),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], Some(full.to_owned())),
            (&["x-webkit-deflate-frame", "Permessage-Deflate"], Some(full.to_owned())),
            (&["permessage-deflate; mystery"], None),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=09"], None),
            (&["permessage-deflate; client_max_window_bits=+9"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits=9"], None),
            (&["", "permessage-bzip2"], None),
        ] {
            assert_eq!(accepted(offers, true), expected, "{offers:?}");
        }
        let sparing = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";
        assert_eq!(accepted(&["permessage-deflate"], false).as_deref(), Some(sparing));
    }

    #[test]
    fn only_contexts_that_are_kept_take_memory() {
        let offer = Offer { client_bits: Some(15), ..Offer::default() };
        assert_eq!(offer.accept(false).memory(), 0);
        assert_eq!(offer.accept(true).memory(), (152 << 10) + (24 << 10) + (12 << 10) + (4 << 10));
    }
}
