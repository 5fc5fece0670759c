//! Error pages for developers when the app fails. Only with `--development`.

use std::borrow::Cow;

use http::{Response, StatusCode};

use super::page::{Details, Page};
use crate::body::Body;
use crate::visit::RequestInfo;

/// Maximum number of bytes shown of a traceback.
const TRACEBACK_LIMIT: usize = 64 << 10;
/// Maximum number of bytes shown of the line with the cause.
const CAUSE_LIMIT: usize = 1 << 10;

/// Why the app failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure<'a> {
    /// It raised an exception before the response started. Contains the traceback.
    Request(&'a str),
    /// Its newest version can't start.
    Start {
        /// The cause in one line, then the traceback.
        text: &'a str,
        /// What happens next, as a sentence without a full stop.
        next: &'a str,
    },
}

impl<'a> Failure<'a> {
    /// The response that replaces the app's.
    pub(crate) fn response(self, info: &RequestInfo<'_>) -> Response<Body> {
        let (cause, traceback) = self.parts();
        let cause = &cause[..cause.floor_char_boundary(CAUSE_LIMIT)];
        // Keep the end, where Python names the exception.
        let from = traceback.ceil_char_boundary(traceback.len().saturating_sub(TRACEBACK_LIMIT));
        let (what, traceback) = (self.what(), traceback[from..].to_owned());
        Page { status: self.status(), text: cause, more: Details::Failure { what, traceback } }.write(info)
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Start { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn what(self) -> Cow<'static, str> {
        match self {
            Self::Request(_) => "The app raised an exception while it handled this request.".into(),
            Self::Start { next, .. } => format!("The app can't start. {next}.").into(),
        }
    }

    /// The cause in one line, and the traceback.
    fn parts(self) -> (&'a str, &'a str) {
        match self {
            Self::Request(traceback) => {
                let names_it = |line: &&str| !line.starts_with([' ', '\t']) && !line.is_empty();
                (traceback.lines().rev().find(names_it).unwrap_or("The app failed"), traceback)
            }
            Self::Start { text, .. } => text.split_once('\n').unwrap_or((text, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::ACCEPT;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::visit::request_id::RequestId;

    async fn page(failure: Failure<'_>, accept: &str) -> (StatusCode, String) {
        let (head, ()) = Request::get("/").header(ACCEPT, accept).body(()).unwrap().into_parts();
        let response = failure.response(&RequestInfo::new(RequestId::new(), &head));
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    const TRACEBACK: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1\n    f('<script>{id}')\n\
                             ValueError: <script>alert(1)</script> & \"{more}\"";

    #[tokio::test]
    async fn the_exception_is_shown_with_its_traceback_and_escaped() {
        let (status, page) = page(Failure::Request(TRACEBACK), "text/html").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        for shown in [
            "<h1>ValueError: &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;{more}&quot;</h1>",
            "File &quot;a.py&quot;, line 1\n    f(",
            "&lt;script&gt;{id}",
            "<footer>Request ID <code>",
        ] {
            assert!(page.contains(shown), "{shown} is not in {page}");
        }
        assert!(!page.contains("<script"), "{page}");
    }

    #[tokio::test]
    async fn programs_get_the_traceback_in_their_format() {
        let (_, json) = page(Failure::Request(TRACEBACK), "application/json").await;
        assert!(json.contains("\"status\":500,\"detail\":\"ValueError: <script>"), "{json}");
        assert!(json.contains("\"traceback\":\"Traceback (most recent call last):\\u000a"), "{json}");
        let (_, text) = page(Failure::Request(TRACEBACK), "*/*").await;
        assert!(text.contains(TRACEBACK) && text.contains("\nRequest ID: "), "{text}");
    }

    #[tokio::test]
    async fn a_failed_start_is_shown_with_its_cause_and_truncated() {
        let long = format!("{}\n{}\nthe end", "é".repeat(CAUSE_LIMIT), "é".repeat(TRACEBACK_LIMIT));
        for (text, cause, traceback) in [
            ("No module named x\nTraceback", "No module named x</h1>", "<pre>Traceback</pre>"),
            ("no traceback", "no traceback</h1>", "<pre></pre>"),
            (&*long, "ééé", "é\nthe end</pre>"),
        ] {
            let (status, page) =
                page(Failure::Start { text, next: "Imperium tries again" }, "text/html").await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(page.contains(&format!("<h1>{cause}")) && page.contains(traceback), "{page}");
            assert!(page.contains("The app can&#39;t start. Imperium tries again."), "{page}");
            assert!(page.len() < 2 * TRACEBACK_LIMIT);
        }
    }
}
