//! Trailers: header fields that follow the body of a response (RFC 9110, section 6.5).

use api::runner::Header;
use http::header::TE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use tracing::warn;

use crate::observe::log_limit::LogLimit;

/// Whether a client takes trailers. Over HTTP/1.1, it has to say so. Others get the response without them.
pub(super) fn are_accepted(head: &Parts) -> bool {
    match head.version {
        Version::HTTP_2 => true,
        Version::HTTP_11 => {
            let accepted = head.headers.get_all(TE).iter().filter_map(|it| it.to_str().ok());
            accepted.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case("trailers"))
        }
        _ => false,
    }
}

/// The trailers of a response of `app` for the client. Those that HTTP doesn't allow are dropped.
pub(super) fn for_client(app: &str, trailers: Vec<Header>) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(trailers.len());
    for Header { name, value } in trailers {
        let field = HeaderName::from_bytes(&name).ok().filter(|it| is_allowed(it.as_str()));
        match (field, HeaderValue::from_maybe_shared(value)) {
            (Some(field), Ok(value)) => {
                out.append(field, value);
            }
            _ => {
                static LOGGED: LogLimit = LogLimit::every(30);
                if let Some(withheld) = LOGGED.pass() {
                    let field = name.escape_ascii().to_string();
                    warn!(
                        app,
                        field,
                        withheld,
                        "a trailer of the app was dropped: HTTP doesn't allow this field after the body"
                    );
                }
            }
        }
    }
    out
}

/// Whether a field may be a trailer: not if it is needed for framing, routing, authentication, conditions, caching, or to
/// process the content (RFC 9110, section 6.5.1).
fn is_allowed(name: &str) -> bool {
    !super::headers::is_hop_by_hop(name)
        && !name.starts_with("if-")
        && !name.starts_with("content-")
        && !matches!(
            name,
            "age"
                | "authorization"
                | "cache-control"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
                | "host"
                | "location"
                | "max-forwards"
                | "pragma"
                | "range"
                | "retry-after"
                | "set-cookie"
                | "vary"
                | "warning"
                | "www-authenticate"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_needed_before_the_body_are_no_trailers() {
        let header = |name: &'static str| Header { name: name.into(), value: "x".into() };
        let names = ["server-timing", "x-checksum", "etag", "digest"];
        let refused = ["content-length", "transfer-encoding", "set-cookie", "host", "trailer", "bad name"];
        let trailers = for_client("blog", names.into_iter().chain(refused).map(header).collect());
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), names);
    }

    #[test]
    fn clients_of_http_1_have_to_accept_trailers() {
        for (version, te, expected) in [
            (Version::HTTP_11, None, false),
            (Version::HTTP_11, Some("gzip"), false),
            (Version::HTTP_11, Some("trailers"), true),
            (Version::HTTP_11, Some("gzip, Trailers"), true),
            (Version::HTTP_10, Some("trailers"), false),
            (Version::HTTP_2, None, true),
        ] {
            let mut request = http::Request::builder().version(version);
            if let Some(te) = te {
                request = request.header(TE, te);
            }
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(are_accepted(&head), expected, "{version:?} {te:?}");
        }
    }
}
