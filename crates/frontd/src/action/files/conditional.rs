//! Decides whether to send all of a file, a part, or nothing because the client has it (RFC 9110, sections 13
//! and 14).

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, Method};

/// The validators that preconditions are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validators<'a> {
    /// A strong entity tag with its quotes. Empty if there is none, which matches no tag that a client can
    /// send.
    pub(super) etag: &'a [u8],
    /// Seconds since 1970, if the time is meaningful.
    pub(super) modified: Option<u64>,
    /// In bytes.
    pub(super) size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Whole,
    /// 206, with this byte range.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// Evaluates the preconditions of a GET or HEAD request, in the order of RFC 9110, section 13.2.2.
pub(super) fn decide(method: &Method, headers: &HeaderMap, file: Validators<'_>) -> Decision {
    // Most requests have no preconditions.
    let dates = |name| file.modified.zip(date(headers, &name));
    let failed = match tags(headers, &IF_MATCH) {
        Some(mut tags) => !tags.any(|tag| tag.matches_strongly(file.etag)),
        None => dates(IF_UNMODIFIED_SINCE).is_some_and(|(modified, since)| modified > since),
    };
    if failed {
        return Decision::PreconditionFailed;
    }
    let unchanged = match tags(headers, &IF_NONE_MATCH) {
        Some(mut tags) => tags.any(|tag| tag.matches_weakly(file.etag)),
        None => dates(IF_MODIFIED_SINCE).is_some_and(|(modified, since)| modified <= since),
    };
    if unchanged {
        return Decision::NotModified;
    }
    if method == Method::GET && may_send_part(headers, file) {
        return part(headers, file.size);
    }
    Decision::Whole
}

/// Whether If-Range is absent or matches the file.
fn may_send_part(headers: &HeaderMap, file: Validators<'_>) -> bool {
    let Some(condition) = headers.get(IF_RANGE) else { return true };
    let value = condition.as_bytes();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return value == file.etag;
    }
    file.modified.is_some_and(|modified| date(headers, &IF_RANGE) == Some(modified))
}

/// Evaluates Range. A malformed range, another unit, and multiple ranges are ignored.
fn part(headers: &HeaderMap, size: u64) -> Decision {
    let mut values = headers.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Decision::Whole };
    let Some(spec) = value.to_str().ok().and_then(RangeSpec::parse) else { return Decision::Whole };
    match spec {
        RangeSpec::From(first, _) if first >= size => Decision::Unsatisfiable,
        RangeSpec::From(first, last) => Decision::Part(first..last.saturating_add(1).min(size)),
        RangeSpec::Last(0) => Decision::Unsatisfiable,
        RangeSpec::Last(_) if size == 0 => Decision::Whole,
        RangeSpec::Last(count) => Decision::Part(size.saturating_sub(count)..size),
    }
}

enum RangeSpec {
    /// First and last byte.
    From(u64, u64),
    /// This many bytes at the end.
    Last(u64),
}

impl RangeSpec {
    fn parse(value: &str) -> Option<Self> {
        let (unit, spec) = value.split_once('=')?;
        let (first, last) = spec.trim().split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (first, last) {
            ("", count) => Some(Self::Last(number(count)?)),
            (first, "") => Some(Self::From(number(first)?, u64::MAX)),
            (first, last) => Some(Self::From(number(first)?, number(last)?)),
        }
        .filter(|spec| !matches!(spec, Self::From(first, last) if first > last))
    }
}

/// Parses digits. Saturates, since a number larger than any file is still valid.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Seconds since 1970. `None` if the date is absent, malformed, or repeated.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let time: SystemTime = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[derive(Clone, Copy, Debug)]
enum Tag<'a> {
    Any,
    Strong(&'a [u8]),
    Weak(&'a [u8]),
}

impl Tag<'_> {
    fn matches_strongly(self, etag: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Strong(tag) => tag == etag,
            Self::Weak(_) => false,
        }
    }

    fn matches_weakly(self, etag: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Strong(tag) | Self::Weak(tag) => tag == etag,
        }
    }
}

/// The entity tags in all fields of this name, up to the first malformed one. `None` if there is no such
/// field.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<impl Iterator<Item = Tag<'a>> + use<'a>> {
    if !headers.contains_key(name) {
        return None;
    }
    Some(headers.get_all(name).iter().flat_map(|value| {
        let mut rest = value.as_bytes();
        std::iter::from_fn(move || {
            let (tag, after) = next_tag(rest)?;
            rest = after;
            Some(tag)
        })
    }))
}

/// Parses one tag up to its closing quote, since tags may contain commas.
fn next_tag(list: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let list = &list[start..];
    if let Some(rest) = list.strip_prefix(b"*") {
        return Some((Tag::Any, rest));
    }
    let opaque = list.strip_prefix(b"W/").unwrap_or(list);
    let inner = opaque.strip_prefix(b"\"")?;
    let end = inner.iter().position(|&byte| byte == b'"')?;
    let (tag, rest) = opaque.split_at(end + 2);
    Some((if opaque.len() < list.len() { Tag::Weak(tag) } else { Tag::Strong(tag) }, rest))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::Decision::{NotModified, Part, PreconditionFailed, Unsatisfiable, Whole};
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[track_caller]
    fn check(method: &Method, fields: &[(&'static str, &'static str)], size: u64, expected: &Decision) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let file = Validators { etag: b"\"a-1\"", modified: Some(784_111_777), size };
        assert_eq!(decide(method, &headers, file), *expected, "{method} {fields:?} of {size}");
    }

    #[test]
    fn preconditions_are_evaluated_in_order() {
        for (fields, expected) in [
            (&[][..], Whole),
            (&[("if-none-match", "\"a-1\"")], NotModified),
            (&[("if-none-match", "W/\"a-1\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\", \"a,b\" ,W/\"y\",\"a-1\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a-1\"")], NotModified),
            (&[("if-none-match", "\"x\"")], Whole),
            (&[("if-none-match", "a-1")], Whole),
            (&[("if-none-match", "")], Whole),
            (&[("if-modified-since", MODIFIED)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Whole),
            (&[("if-modified-since", "yesterday")], Whole),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Whole),
            (&[("if-none-match", "\"a-1\""), ("if-modified-since", BEFORE)], NotModified),
            (&[("if-match", "\"a-1\"")], Whole),
            (&[("if-match", "*")], Whole),
            (&[("if-match", "\"x\", \"a-1\"")], Whole),
            (&[("if-match", "W/\"a-1\"")], PreconditionFailed),
            (&[("if-match", "\"x\"")], PreconditionFailed),
            (&[("if-unmodified-since", MODIFIED)], Whole),
            (&[("if-unmodified-since", AFTER)], Whole),
            (&[("if-unmodified-since", BEFORE)], PreconditionFailed),
            (&[("if-unmodified-since", "yesterday")], Whole),
            (&[("if-match", "\"a-1\""), ("if-unmodified-since", BEFORE)], Whole),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a-1\"")], PreconditionFailed),
            (&[("if-match", "\"a-1\""), ("if-none-match", "\"a-1\"")], NotModified),
            (&[("if-unmodified-since", BEFORE), ("range", "bytes=0-1")], PreconditionFailed),
            (&[("if-none-match", "\"a-1\""), ("range", "bytes=0-1")], NotModified),
            (&[("if-match", "\"a-1\""), ("range", "bytes=0-1")], Part(0..2)),
        ] {
            check(&Method::GET, fields, 10, &expected);
        }
        check(&Method::HEAD, &[("if-none-match", "\"a-1\"")], 10, &NotModified);
        check(&Method::HEAD, &[("range", "bytes=0-1")], 10, &Whole);
    }

    #[test]
    fn single_ranges() {
        for (range, size, expected) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=2-5", 10, Part(2..6)),
            ("Bytes=2-5", 10, Part(2..6)),
            ("bytes= 2-5 ", 10, Part(2..6)),
            ("bytes=2-", 10, Part(2..10)),
            ("bytes=0-", 10, Part(0..10)),
            ("bytes=9-", 10, Part(9..10)),
            ("bytes=5-99", 10, Part(5..10)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-99", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=5-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1-+2", 10, Whole),
            ("bytes=1", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("items=0-1", 10, Whole),
        ] {
            check(&Method::GET, &[("range", range)], size, &expected);
        }
        check(&Method::GET, &[("range", "bytes=0-1"), ("range", "bytes=3-4")], 10, &Whole);
    }

    #[test]
    fn a_range_is_only_served_from_the_file_that_the_client_knows() {
        for (condition, expected) in [
            ("\"a-1\"", Part(0..2)),
            ("\"x\"", Whole),
            ("W/\"a-1\"", Whole),
            (MODIFIED, Part(0..2)),
            (BEFORE, Whole),
            (AFTER, Whole),
            ("yesterday", Whole),
        ] {
            check(&Method::GET, &[("range", "bytes=0-1"), ("if-range", condition)], 10, &expected);
        }
        // Otherwise, even an unsatisfiable range is ignored.
        check(&Method::GET, &[("range", "bytes=10-"), ("if-range", "\"x\"")], 10, &Whole);
    }
}
