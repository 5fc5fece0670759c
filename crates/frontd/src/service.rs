//! Responds to one request: with a static file, through the app, or with a built-in page.

use std::sync::Arc;
use std::time::Duration;

use daemon::logging::ACCESS;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::{debug, info, warn};

use crate::action::app;
use crate::action::files;
use crate::action::reply::{self, Details, Reply, RequestInfo, Site};
use crate::backend::served_by::ServedBy;
use crate::body::Body;
use crate::body::request::RequestBody;
use crate::listen::shard::Shard;
use crate::mode::Mode;
use crate::observe::log_limit::LogLimit;
use crate::site::table::App;
use crate::visit::authority::Authority;
use crate::visit::client::Client;
use crate::visit::request_id::RequestId;
use crate::visit::url_path::{self, TooLong};
use crate::visit::violation::Violation;
use crate::yield_before_park;

/// Bytes of responses that a connection may hold in memory regardless of the limits.
const ALWAYS_ADMITTED: u64 = 1 << 20;

/// How often a waiting request checks whether its connection holds less than `ALWAYS_ADMITTED`.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Responds to `request`, and writes an access log line if enabled.
pub(crate) async fn respond(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let id = RequestId::new();
    let Some(line) = shard.access_log().then(|| Line::of(client, &request)) else {
        return answer(shard, client, id, request).await;
    };
    let began = std::time::Instant::now();
    let mut response = answer(shard, client, id, request).await;
    let Line { method, target, host } = line;
    let (status, client) = (response.status().as_u16(), client.address());
    // Rounded to microseconds.
    let milliseconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let served_by = response.extensions_mut().remove::<ServedBy>();
    let worker = served_by.as_ref().map_or("-", ServedBy::worker);
    info!(target: ACCESS, %client, %method, host, target, status, milliseconds, worker, request = %id, "request");
    response
}

/// The fields of an access log line.
struct Line {
    method: Method,
    target: String,
    host: String,
}

impl Line {
    fn of(client: &Client, request: &Request<Incoming>) -> Self {
        if client.refusal().of(request).is_some() {
            let method = Method::from_bytes(b"-").unwrap_or_default();
            return Self { method, target: "-".to_owned(), host: String::new() };
        }
        let host = request.headers().get(http::header::HOST).and_then(|it| it.to_str().ok());
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            host: host.or(request.uri().host()).unwrap_or_default().to_owned(),
        }
    }
}

/// Refuses a plain HTTP request on a TLS port, and closes the connection.
pub(crate) fn refuse_plain(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let id = RequestId::new();
    let violation = client.refusal().of(&request);
    let (head, _) = request.into_parts();
    let mut response = match violation {
        Some(violation) => refuse_head(client, violation, &RequestInfo::new(id, &head)),
        None => {
            shard.metrics().unrouted.inc();
            record_refusal(shard, client, None, Reply::PlainHttp, id);
            let url = Authority::of(&head, client.first_authority())
                .ok()
                .filter(|it| !it.host.is_empty())
                .map(|it| {
                    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
                    Details::Url(format!("https://{}{target}", String::from_utf8_lossy(&it.text)))
                });
            Reply::PlainHttp.response_with(&RequestInfo::new(id, &head), url.unwrap_or_default())
        }
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn answer(shard: &Shard, client: &Client, id: RequestId, request: Request<Incoming>) -> Response<Body> {
    let violation = client.refusal().of(&request);
    let (mut head, body) = request.into_parts();
    if let Some(violation) = violation {
        return refuse_head(client, violation, &RequestInfo::new(id, &head));
    }
    let mut body = RequestBody::new(body, &shard.config().limits);
    let response = match url_path::normalize(&mut head.uri) {
        Ok(()) => route(shard, client, &head, id, &mut body).await,
        Err(TooLong) => {
            let reply = Reply::Malformed(Violation::TargetTooLong);
            refuse(shard, client, None, reply, &RequestInfo::new(id, &head))
        }
    };
    // An HTTP/1.1 client that expects `100 Continue` hasn't started to send its body.
    let sends = head.version == Version::HTTP_2 || !head.headers.contains_key(EXPECT);
    if sends && !body.is_end_stream() {
        shard.tasks().spawn(body.linger());
    }
    match head.method {
        // Over HTTP/2, hyper would send the body.
        Method::HEAD => response.map(|_| Body::empty()),
        _ => response.map(|body| body.to(head.version, client.memory())),
    }
}

async fn route(
    shard: &Shard,
    client: &Client,
    head: &Parts,
    id: RequestId,
    body: &mut RequestBody,
) -> Response<Body> {
    let (path, info) = (head.uri.path(), RequestInfo::new(id, head));
    let routed = match Authority::of(head, client.first_authority()) {
        _ if let Some(reply) = check_fields(shard, head) => Err(reply),
        _ if head.method == Method::CONNECT => Err(Reply::NoTunnel),
        Err(error) => Err(error.into()),
        Ok(_) if head.method == Method::OPTIONS && path == "*" => return reply::options(),
        Ok(authority) => match find_app(shard, &authority, path).await {
            Ok(app) => Ok((authority, app)),
            Err(reply) => Err(reply),
        },
    };
    let (authority, app) = match routed {
        Ok(routed) => routed,
        Err(reply) => {
            shard.metrics().unrouted.inc();
            if reply == Reply::NoApp && shard.mode() == Mode::Development {
                record_refusal(shard, client, None, reply, id);
                return reply.response_with(&info, Details::Sites(sites(shard, client, head)));
            }
            return refuse(shard, client, None, reply, &info);
        }
    };
    let response = match app.static_file(path) {
        _ if !has_room(shard, client).await => {
            refuse(shard, client, Some(app.name()), Reply::Overloaded, &info)
        }
        Some((folder, rest)) => {
            yield_before_park::file();
            let files = &client.share().files;
            let mut response = folder.serve(&head.method, rest, &head.headers, files).await;
            files::keep_query(&mut response, head.uri.query());
            reply::complete(response.map(Body::file), &info)
        }
        None => {
            let answered = app::forward(shard, &app, client, &authority, head, id, body).await;
            answered.unwrap_or_else(|reply| refuse(shard, client, Some(app.name()), reply, &info))
        }
    };
    app.metrics().responded(response.status());
    response
}

/// Finds the app for a host and a path. Until the first routing table is known, waits for it.
async fn find_app(shard: &Shard, authority: &Authority, path: &str) -> Result<Arc<App>, Reply> {
    if let Some(app) = shard.route(authority.host(), path) {
        return Ok(app);
    }
    if !shard.is_ready() && !shard.wait_for_table().await {
        return Err(Reply::NotReady);
    }
    shard.route(authority.host(), path).ok_or(Reply::NoApp)
}

/// All sites with the URLs that the client can use, for developers.
fn sites(shard: &Shard, client: &Client, head: &Parts) -> Vec<Site> {
    let scheme = if client.connection().tls { "https" } else { "http" };
    let port = Authority::of(head, client.first_authority()).ok().and_then(|it| it.port);
    let port = port.map_or_else(String::new, |it| format!(":{it}"));
    let site = |(domain, mount): (&str, &str)| {
        let url = (!domain.contains('*')).then(|| format!("{scheme}://{domain}{port}{mount}/"));
        Site { name: format!("{domain}{mount}"), url }
    };
    shard.table().sites().into_iter().map(site).collect()
}

/// Checks the header fields of an HTTP/2 request. `head_guard` has already checked those of HTTP/1.1.
fn check_fields(shard: &Shard, head: &Parts) -> Option<Reply> {
    if head.version != Version::HTTP_2 {
        return None;
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut size = head.uri.path_and_query().map_or(0, |it| it.as_str().len());
    for (name, value) in &head.headers {
        let value = value.as_bytes();
        if is_space(value.first()) || is_space(value.last()) {
            return Some(Reply::BadField);
        }
        size += name.as_str().len() + value.len();
    }
    (size > shard.config().limits.header_bytes).then_some(Reply::Malformed(Violation::HeadTooLong))
}

/// Refuses a request whose head violates HTTP. The guard has already counted it.
fn refuse_head(client: &Client, violation: Violation, info: &RequestInfo<'_>) -> Response<Body> {
    let (client, reason, request) = (client.address(), violation.name(), info.id);
    debug!(%client, reason, %request, "refused a request: {violation}");
    Reply::Malformed(violation).response(info)
}

/// Refuses a request with a built-in page. Each refusal is counted and logged: mistakes of clients at
/// `debug`, and what concerns the operator at `info`, at most once a second.
fn refuse(
    shard: &Shard,
    client: &Client,
    app: Option<&str>,
    reply: Reply,
    info: &RequestInfo<'_>,
) -> Response<Body> {
    record_refusal(shard, client, app, reply, info.id).response(info)
}

/// Counts and logs a refusal. Returns the reply to send, which is more specific if the guard knows the
/// reason.
fn record_refusal(shard: &Shard, client: &Client, app: Option<&str>, reply: Reply, id: RequestId) -> Reply {
    static NOT_SERVED: LogLimit = LogLimit::new();
    let reply = match client.refusal().violation() {
        // The guard has already counted this.
        Some(violation) if reply == Reply::BadBody => Reply::Malformed(violation),
        _ => {
            shard.metrics().refused(reply.name());
            reply
        }
    };
    let (reason, client) = (reply.name(), client.address());
    if reply.is_client_error() {
        debug!(%client, app, reason, request = %id, "refused a request");
    } else if let Some(withheld) = NOT_SERVED.pass() {
        info!(%client, app, reason, request = %id, withheld, "a request was not served");
    }
    reply
}

/// Waits while this connection holds too much response data in memory, for up to the send timeout. Returns
/// whether there is room. A connection that holds less than `ALWAYS_ADMITTED` never waits.
async fn has_room(shard: &Shard, client: &Client) -> bool {
    let memory = client.memory();
    let may_pass = || memory.uses_less_than(ALWAYS_ADMITTED) || !memory.is_full();
    if may_pass() {
        return true;
    }
    let limit = shard.config().limits.send_timeout;
    let room = async {
        while !may_pass() {
            // `room` doesn't wake us when usage falls below `ALWAYS_ADMITTED` while the limit is still exceeded.
            let _check_again = tokio::time::timeout(ROOM_CHECK_INTERVAL, memory.room()).await;
        }
    };
    let has_room = tokio::time::timeout(limit, room).await.is_ok();
    if !has_room {
        static LOGGED: LogLimit = LogLimit::every(30);
        if let Some(withheld) = LOGGED.pass() {
            warn!(
                client = %client.address(),
                withheld,
                "request refused: responses that wait for their clients take all of limits.send_memory, or of this client's part"
            );
        }
    }
    has_room
}
