//! Checks one head line by line: the request line, and the fields that frame the body.
//!
//! It refuses everything that hyper would refuse, so that each refusal can be explained, and also what one
//! lenient parser accepts and another interprets differently.

use std::ops::Range;

use super::target;
use crate::visit::violation::{FIELDS_MAX, Violation};

/// Methods rarely exceed this many bytes.
const METHOD_USUAL: usize = 32;

/// What the lines of the current head have said so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    request: Option<RequestLine>,
    body: Option<Body>,
    has_host: bool,
    fields: usize,
}

#[derive(Debug)]
struct RequestLine {
    is_http10: bool,
    rewrite: Option<Rewrite>,
}

/// A part of a head to be replaced before hyper reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// The range, from the beginning of the head.
    pub(super) place: Range<usize>,
    pub(super) by: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
}

impl Head {
    /// Whether the request line is still missing.
    pub(super) fn is_empty(&self) -> bool {
        self.request.is_none()
    }

    /// The result at the end of the head.
    pub(super) fn end(self) -> (Option<Body>, Option<Rewrite>) {
        (self.body, self.request.and_then(|it| it.rewrite))
    }

    /// Checks the request line, which begins at `start` of the head. An unknown minor version is replaced
    /// with the highest known one (RFC 9110, section 2.5).
    pub(super) fn request_line(&mut self, line: &mut [u8], start: usize) -> Result<(), Violation> {
        let method_end = memchr::memchr(b' ', line).ok_or(Violation::RequestLine)?;
        let target_end = memchr::memrchr(b' ', line).ok_or(Violation::RequestLine)?;
        check_method(&line[..method_end])?;
        let is_http10 = version(&mut line[target_end + 1..])?;
        if target_end <= method_end + 1 {
            return Err(Violation::RequestLine);
        }
        let encoded = target::check(&line[..method_end], &line[method_end + 1..target_end])?;
        let rewrite = encoded.map(|by| Rewrite { place: start + method_end + 1..start + target_end, by });
        self.request = Some(RequestLine { is_http10, rewrite });
        Ok(())
    }

    /// Checks a field line.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Violation::TooManyFields);
        }
        let colon = memchr::memchr(b':', line).ok_or(Violation::FieldName)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_all_token(name) {
            return Err(Violation::FieldName);
        }
        if has_control(value) {
            return Err(Violation::FieldValue);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if std::mem::replace(&mut self.has_host, true) {
                    return Err(Violation::RepeatedHost);
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.frame(Body::Length(number(trim(value)).ok_or(Violation::InvalidContentLength)?))
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(trim(value)),
            _ => Ok(()),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.request.as_ref().is_some_and(|it| it.is_http10) {
            return Err(Violation::InvalidTransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            return self.frame(Body::Chunked);
        }
        let codings = || value.split(|byte| *byte == b',').map(trim);
        let chunked = codings().filter(|it| it.eq_ignore_ascii_case(b"chunked")).count();
        let ends_in_chunked = codings().next_back().is_some_and(|it| it.eq_ignore_ascii_case(b"chunked"));
        Err(match (chunked, ends_in_chunked) {
            _ if value.is_empty() => Violation::InvalidTransferEncoding,
            (0, _) | (1, true) => Violation::UnknownTransferEncoding,
            _ => Violation::InvalidTransferEncoding,
        })
    }

    fn frame(&mut self, body: Body) -> Result<(), Violation> {
        match (self.body.replace(body), body) {
            (None, _) => Ok(()),
            (Some(Body::Length(_)), Body::Length(_)) => Err(Violation::RepeatedContentLength),
            (Some(Body::Chunked), Body::Chunked) => Err(Violation::InvalidTransferEncoding),
            _ => Err(Violation::TwoFramings),
        }
    }
}

/// Checks an incomplete request line, to distinguish garbage from a slow client at once.
pub(super) fn check_begun(line: &[u8]) -> Result<(), Violation> {
    // Only this far, since this is repeated for each byte that arrives.
    let begin = &line[..line.len().min(METHOD_USUAL)];
    let method = begin.split(|byte| matches!(byte, b' ' | b'\r')).next().unwrap_or_default();
    if method.is_empty() && !begin.starts_with(b" ") { Ok(()) } else { check_method(method) }
}

fn check_method(method: &[u8]) -> Result<(), Violation> {
    if is_all_token(method) { Ok(()) } else { Err(Violation::Method) }
}

/// Checks the version. Returns whether it is HTTP/1.0.
fn version(version: &mut [u8]) -> Result<bool, Violation> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => {
            let is_http10 = *minor == b'0';
            *minor = (*minor).min(b'1');
            Ok(is_http10)
        }
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Violation::Version),
        _ => Err(Violation::RequestLine),
    }
}

/// Whether this is a token (RFC 9110, section 5.6.2).
fn is_all_token(text: &[u8]) -> bool {
    const TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            token[byte as usize] = matches!(byte,
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
                | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
            byte += 1_u8;
        }
        token
    };
    // Without an early exit, which would cost more than it saves.
    !text.is_empty() && text.iter().fold(true, |all, byte| all & TOKEN[usize::from(*byte)])
}

/// Whether there are control characters other than HTAB, which no field value contains (RFC 9110, section 5.5).
fn has_control(value: &[u8]) -> bool {
    /// Bytes that are checked at once, without a branch: the compiler turns that into vector instructions.
    const BLOCK: usize = 16;
    let in_block = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | is_control(*byte));
    match value.last_chunk::<BLOCK>() {
        // The last block may overlap the one before.
        Some(last) => {
            let (blocks, _) = value.as_chunks::<BLOCK>();
            blocks.iter().fold(in_block(last), |found, block| found | in_block(block))
        }
        None => value.iter().any(|byte| is_control(*byte)),
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Trims optional whitespace (RFC 9110, section 5.6.3), which is only SP and HTAB.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Parses decimal digits only: `FromStr` would accept a sign. Up to 63 bits, since hyper reserves some
/// values.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    number.filter(|it| it.leading_zeros() > 0)
}
