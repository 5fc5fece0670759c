//! Trailers of responses.

use api::runner::Response;

use super::worker::{Stage, header, read_until, soon};
use super::*;

const TRAILERS: &[(&str, &str)] = &[("x-checksum", "42"), ("set-cookie", "a=b"), ("server-timing", "db")];

#[tokio::test]
async fn trailers_are_sent_over_http_1_to_clients_that_accept_them() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    for (te, announced, end) in [
        ("TE: trailers\r\n", "x-checksum, set-cookie", "4\r\nbody\r\n0\r\nX-Checksum: 42\r\n\r\n"),
        ("TE: trailers\r\n", "", "4\r\nbody\r\n0\r\n\r\n"),
        ("", "x-checksum, server-timing", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let mut client = stage.client(&format!("GET / HTTP/1.1\r\nHost: blog.example\r\n{te}\r\n")).await;
        let request = worker.request().await;
        let named = (!announced.is_empty()).then(|| header("trailer", announced));
        let headers = named.into_iter().collect();
        worker.begin_response(Response { id: request.id, headers, ..Response::default() });
        worker.call(request.id).await.end_with("body", TRAILERS).await;
        worker.done(request.id);
        let response = read_until(&mut client, end).await;
        let names = !te.is_empty() && !announced.is_empty();
        assert_eq!(response.contains("\r\nTrailer: "), names, "{response}");
    }
}

#[tokio::test]
async fn a_response_with_a_length_has_no_trailers_over_http_1() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client("GET / HTTP/1.1\r\nHost: blog.example\r\nTE: trailers\r\n\r\n").await;
    let request = worker.request().await;
    let headers = vec![header("trailer", "x-checksum"), header("content-length", "4")];
    worker.begin_response(Response { id: request.id, headers, ..Response::default() });
    worker.call(request.id).await.end_with("body", TRAILERS).await;
    worker.done(request.id);
    let response = read_until(&mut client, "\r\n\r\nbody").await;
    assert!(!response.contains("Trailer: "), "{response}");
}

#[tokio::test]
async fn trailers_are_sent_over_http_2() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client_h2().await;
    for chunk in ["body", ""] {
        let request = Request::builder().uri("https://blog.example/").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let request = worker.request().await;
        worker.begin_response(Response { id: request.id, ..Response::default() });
        worker.call(request.id).await.end_with(chunk, TRAILERS).await;
        worker.done(request.id);
        let mut body = soon("the response", response).await.unwrap().into_body();
        let mut received = Vec::new();
        while let Some(part) = soon("the body", body.data()).await {
            received.extend_from_slice(&part.unwrap());
        }
        assert_eq!(received, chunk.as_bytes());
        let trailers = soon("the trailers", body.trailers()).await.unwrap().expect("there are trailers");
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["x-checksum", "server-timing"]);
    }
}
