//! Every built-in page in every format.

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;

use super::*;
use crate::visit::request_id::RequestId;

const ALL: &[Reply] = &[
    Reply::Malformed(Violation::Fragment),
    Reply::Malformed(Violation::TargetTooLong),
    Reply::Malformed(Violation::HeadTooLong),
    Reply::Malformed(Violation::UnknownTransferEncoding),
    Reply::Malformed(Violation::Version),
    Reply::BadHost,
    Reply::HostMismatch,
    Reply::PlainHttp,
    Reply::BadField,
    Reply::BadBody,
    Reply::NotReady,
    Reply::NoApp,
    Reply::NoTunnel,
    Reply::BodyTimeout,
    Reply::BodyTooLarge,
    Reply::Internal,
    Reply::WorkerLost,
    Reply::BadResponse,
    Reply::TooManyUploads,
    Reply::Overloaded,
    Reply::AppFailed,
    Reply::AppTimeout,
];

/// The headers and body of a page for a client with this `Accept` header.
async fn answer(accept: &str, write: impl FnOnce(&RequestInfo<'_>) -> Response<Body>) -> (HeaderMap, String) {
    let request = Request::get("/").header(ACCEPT, accept).body(()).unwrap();
    let (head, ()) = request.into_parts();
    let info = RequestInfo::new(RequestId::new(), &head);
    let (head, body) = write(&info).into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    assert_eq!(head.headers[CONTENT_LENGTH], text.len().to_string());
    assert!(text.contains(&info.id.to_string()), "{text}");
    assert!(text.contains(head.status.as_str()), "{text}");
    (head.headers, text)
}

#[tokio::test]
async fn every_reply_has_a_self_contained_page() {
    for reply in ALL {
        let (headers, page) = answer("text/html", |it| reply.response(it)).await;
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        let status = reply.status();
        let waits = matches!(status.as_u16(), 429 | 503);
        assert_eq!(headers.contains_key(RETRY_AFTER), waits, "{reply:?}");
        assert!(page.starts_with("<!doctype html>\n") && page.ends_with("</html>\n"), "{page}");
        assert!(
            page.contains(&format!("<title>{} · ", status.as_u16())),
            "{reply:?} has the page of another status"
        );
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"), "{page}");
        for foreign in ["<script", "<link", "src=", "url(", "@import", "://", "{text}", "{more}", "{id}"] {
            assert!(!page.contains(foreign), "{foreign} in {reply:?}");
        }
    }
}

#[tokio::test]
async fn programs_get_problem_details_and_other_clients_get_text() {
    for reply in ALL {
        let (headers, json) = answer("application/json", |it| reply.response(it)).await;
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        let status = reply.status();
        let start = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"",
            status.canonical_reason().unwrap(),
            status.as_u16()
        );
        assert!(json.starts_with(&start) && json.ends_with("\"}\n"), "{json}");
        let (headers, text) = answer("*/*", |it| reply.response(it)).await;
        assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert!(text.starts_with(&format!("{status}\n\n{}", reply.text())), "{text}");
    }
}

#[tokio::test]
async fn external_input_is_escaped() {
    let hostile = "https://a/\"><script>'&\\\u{7}";
    let url = || Details::Url(hostile.to_owned());
    let (_, page) = answer("text/html", |it| Reply::PlainHttp.response_with(it, url())).await;
    assert!(page.contains("<a href=\"https://a/&quot;&gt;&lt;script&gt;&#39;&amp;\\\u{7}\">"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    let (_, json) = answer("application/json", |it| Reply::PlainHttp.response_with(it, url())).await;
    assert!(json.contains(r#","url":"https://a/\"><script>'&\\\u0007"}"#), "{json}");
    // A placeholder in an inserted value isn't expanded.
    let braces = Details::Url("https://a/{id}".to_owned());
    let (_, page) = answer("text/html", |it| Reply::PlainHttp.response_with(it, braces)).await;
    assert!(page.contains("<a href=\"https://a/{id}\">"), "{page}");
}

#[tokio::test]
async fn a_list_of_sites_is_bounded() {
    let site =
        |it: usize| SiteLink { name: format!("{it}.example"), url: Some(format!("http://{it}.example/")) };
    let sites =
        || Details::Sites((0..250).map(site).chain([SiteLink { name: "*".to_owned(), url: None }]).collect());
    let (_, page) = answer("text/html", |it| Reply::NoApp.response_with(it, sites())).await;
    assert_eq!(page.matches("<li>").count(), 100);
    assert!(page.contains("<li><a href=\"http://7.example/\">7.example</a></li>"), "{page}");
    assert!(page.contains("and 151 more"), "{page}");
}

#[tokio::test]
async fn a_refused_static_file_has_a_page_and_keeps_its_headers() {
    let mut refused = Response::new(Body::empty());
    *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    let (headers, page) = answer("text/html", |it| complete(refused, it)).await;
    assert_eq!(headers[ALLOW], "GET, HEAD");
    assert!(page.contains("<title>405 · "), "{page}");
    let request = Request::get("/").body(()).unwrap().into_parts().0;
    let served =
        complete(Response::new(Body::full("file".into())), &RequestInfo::new(RequestId::new(), &request));
    assert_eq!(served.into_body().collect().await.unwrap().to_bytes(), "file");
}
