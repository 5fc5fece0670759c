//! Answers one request: from disk, from its app, or from the reply desk.

use http::header::EXPECT;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::info;

use crate::authority::Authority;
use crate::body::Body;
use crate::client::Client;
use crate::courtesy;
use crate::proxy;
use crate::replies::Reply;
use crate::request_body::RequestBody;
use crate::shard::Shard;

/// Answers `request`, and writes it into the access log if there is one.
pub(crate) async fn respond(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let Some(line) = shard.access_log().then(|| Line::of(&request)) else {
        return answer(shard, client, request).await;
    };
    let began = std::time::Instant::now();
    let response = answer(shard, client, request).await;
    let Line { method, target, host } = line;
    let (status, client) = (response.status().as_u16(), client.address());
    let milliseconds = began.elapsed().as_millis();
    info!(target: "access", %client, %method, host, target, status, milliseconds, "request");
    response
}

/// What the access log says of a request.
struct Line {
    method: Method,
    target: String,
    host: String,
}

impl Line {
    fn of(request: &Request<Incoming>) -> Self {
        let host = request.headers().get(http::header::HOST).and_then(|it| it.to_str().ok());
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            host: host.or(request.uri().host()).unwrap_or_default().to_owned(),
        }
    }
}

async fn answer(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut body = RequestBody::new(body);
    let response = route(shard, client, &head, &mut body).await;
    // Over HTTP/1.1, who was to be told to continue has not begun.
    let sends = head.version == Version::HTTP_2 || !head.headers.contains_key(EXPECT);
    if sends && !body.is_end_stream() {
        shard.tasks().spawn(body.linger());
    }
    match head.method {
        // hyper would send it over HTTP/2.
        Method::HEAD => response.map(|_| Body::empty()),
        _ => response,
    }
}

async fn route(shard: &Shard, client: &Client, head: &Parts, body: &mut RequestBody) -> Response<Body> {
    let path = head.uri.path();
    let routed = match Authority::of(head) {
        _ if head.method == Method::CONNECT => Err(Reply::NoTunnel),
        Err(reply) => Err(reply),
        Ok(authority) => match shard.route(authority.host(), path) {
            Some(app) => Ok((authority, app)),
            None if shard.is_ready() => Err(Reply::NoApp),
            None => Err(Reply::NotReady),
        },
    };
    let (authority, app) = match routed {
        Ok(routed) => routed,
        Err(reply) => {
            shard.metrics().unrouted.inc();
            return reply.response();
        }
    };
    let response = match app.static_file(path) {
        Some((folder, rest)) => {
            courtesy::file();
            folder.serve(&head.method, rest, &head.headers).await.map(Body::file)
        }
        None => {
            let answered = proxy::forward(shard, &app, client, &authority, head, body).await;
            answered.unwrap_or_else(Reply::response)
        }
    };
    app.metrics().responded(response.status());
    response
}
