//! Requests that no connection received: their bodies may be of any kind.

use http_body_util::{BodyExt as _, Full};

use super::*;

#[tokio::test]
async fn a_request_body_of_any_kind_is_accepted_and_every_response_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec!["blog.example".to_owned()];
    let (name, path) = ("blog".to_owned(), "/".to_owned());
    let app = routes::App { name, domains, path, body_limit: 10, queue_size: 1, ..routes::App::default() };
    let shared = shared(folder.path(), &[app]);
    let server = server(&shared);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let refusal = Refusal::none(Arc::clone(&shared.metrics));
    let client = Client::new(peer, peer.ip(), Transport::Plain, shared.clients.of(peer.ip()), refusal);
    for (host, method, expected) in [
        ("blog.example", Method::POST, StatusCode::PAYLOAD_TOO_LARGE),
        ("shop.example", Method::POST, StatusCode::NOT_FOUND),
        ("shop.example", Method::HEAD, StatusCode::NOT_FOUND),
    ] {
        let has_page = method != Method::HEAD;
        let request = Request::builder().method(method).uri("/").header("host", host);
        let request = request.body(Full::new(Bytes::from_static(b"more than ten bytes"))).unwrap();
        let response = server.service.respond(&client, request).await;
        assert_eq!(response.status(), expected, "{host}");
        let page = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(!page.is_empty(), has_page, "{page:?}");
    }
    let metrics = shared.metrics.render([]);
    for counted in [
        r#"imperium_responses_total{app="blog",class="4xx"} 1"#,
        "imperium_responses_unrouted_total 2",
        r#"imperium_refused_total{reason="body_too_large"} 1"#,
        r#"imperium_refused_total{reason="no_app"} 2"#,
    ] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
}
