//! Answers one request: from disk, from its app, or in frontd's own name.

use std::sync::Arc;
use std::time::Duration;

use daemon::logging::ACCESS;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::{debug, info, warn};

use crate::authority::Authority;
use crate::body::Body;
use crate::client::Client;
use crate::head_guard::Violation;
use crate::log_limit::LogLimit;
use crate::mode::Mode;
use crate::proxy;
use crate::replies::{self, Asked, More, Reply, Site};
use crate::request_body::RequestBody;
use crate::request_id::RequestId;
use crate::served_by::ServedBy;
use crate::shard::Shard;
use crate::static_files;
use crate::table::App;
use crate::url_path::{self, TooLong};
use crate::yield_before_park;

/// Bytes of responses that a connection may have in memory whatever is in use by others.
const ALWAYS: u64 = 1 << 20;

/// How often a request that waits for room looks whether its connection has come below that.
const LOOK: Duration = Duration::from_millis(100);

/// Answers `request`, and writes it into the access log if there is one.
pub(crate) async fn respond(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let id = RequestId::new();
    let Some(line) = shard.access_log().then(|| Line::of(client, &request)) else {
        return answer(shard, client, id, request).await;
    };
    let began = std::time::Instant::now();
    let mut response = answer(shard, client, id, request).await;
    let Line { method, target, host } = line;
    let (status, client) = (response.status().as_u16(), client.address());
    // To the microsecond.
    let milliseconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let served_by = response.extensions_mut().remove::<ServedBy>();
    let worker = served_by.as_ref().map_or("-", ServedBy::worker);
    info!(target: ACCESS, %client, %method, host, target, status, milliseconds, worker, request = %id, "request");
    response
}

/// What the access log says of a request.
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

/// Answers a request that came without TLS where TLS is expected. Its connection ends.
pub(crate) fn refuse_plain(shard: &Shard, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let id = RequestId::new();
    let violation = client.refusal().of(&request);
    let (head, _) = request.into_parts();
    let mut response = match violation {
        Some(violation) => refuse_head(client, violation, &Asked::new(id, &head)),
        None => {
            shard.metrics().unrouted.inc();
            told(shard, client, None, Reply::PlainHttp, id);
            let url = Authority::of(&head).ok().filter(|it| !it.host.is_empty()).map(|it| {
                let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
                More::Url(format!("https://{}{target}", String::from_utf8_lossy(&it.text)))
            });
            Reply::PlainHttp.response_with(&Asked::new(id, &head), url.unwrap_or_default())
        }
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn answer(shard: &Shard, client: &Client, id: RequestId, request: Request<Incoming>) -> Response<Body> {
    let violation = client.refusal().of(&request);
    let (mut head, body) = request.into_parts();
    if let Some(violation) = violation {
        return refuse_head(client, violation, &Asked::new(id, &head));
    }
    let mut body = RequestBody::new(body, &shard.config().limits);
    let response = match url_path::normalize(&mut head.uri) {
        Ok(()) => route(shard, client, &head, id, &mut body).await,
        Err(TooLong) => {
            let reply = Reply::Malformed(Violation::TargetTooLong);
            refuse(shard, client, None, reply, &Asked::new(id, &head))
        }
    };
    // Over HTTP/1.1, who was to be told to continue has not begun.
    let sends = head.version == Version::HTTP_2 || !head.headers.contains_key(EXPECT);
    if sends && !body.is_end_stream() {
        shard.tasks().spawn(body.linger());
    }
    match head.method {
        // hyper would send it over HTTP/2.
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
    let (path, asked) = (head.uri.path(), Asked::new(id, head));
    let routed = match Authority::of(head) {
        _ if let Some(reply) = wrong_fields(shard, head) => Err(reply),
        _ if head.method == Method::CONNECT => Err(Reply::NoTunnel),
        Err(reply) => Err(reply),
        Ok(_) if head.method == Method::OPTIONS && path == "*" => return replies::options(),
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
                told(shard, client, None, reply, id);
                return reply.response_with(&asked, More::Sites(sites(shard, client, head)));
            }
            return refuse(shard, client, None, reply, &asked);
        }
    };
    let response = match app.static_file(path) {
        _ if !has_room(shard, client).await => {
            refuse(shard, client, Some(app.name()), Reply::Overloaded, &asked)
        }
        Some((folder, rest)) => {
            yield_before_park::file();
            let files = &client.share().files;
            let mut response = folder.serve(&head.method, rest, &head.headers, files).await;
            static_files::keep_query(&mut response, head.uri.query());
            replies::complete(response.map(Body::file), &asked)
        }
        None => {
            let answered = proxy::forward(shard, &app, client, &authority, head, id, body).await;
            answered.unwrap_or_else(|reply| refuse(shard, client, Some(app.name()), reply, &asked))
        }
    };
    app.metrics().responded(response.status());
    response
}

/// The app for a host and a path. Before the first routing table it waits for that.
async fn find_app(shard: &Shard, authority: &Authority, path: &str) -> Result<Arc<App>, Reply> {
    if let Some(app) = shard.route(authority.host(), path) {
        return Ok(app);
    }
    if !shard.is_ready() && !shard.learns_what_to_serve().await {
        return Err(Reply::NotReady);
    }
    shard.route(authority.host(), path).ok_or(Reply::NoApp)
}

/// All sites, as the client reaches them, for its developer.
fn sites(shard: &Shard, client: &Client, head: &Parts) -> Vec<Site> {
    let scheme = if client.connection().tls { "https" } else { "http" };
    let port = Authority::of(head).ok().and_then(|it| it.port);
    let port = port.map_or_else(String::new, |it| format!(":{it}"));
    let site = |(domain, mount): (&str, &str)| {
        let url = (!domain.contains('*')).then(|| format!("{scheme}://{domain}{port}{mount}/"));
        Site { name: format!("{domain}{mount}"), url }
    };
    shard.table().sites().into_iter().map(site).collect()
}

/// What is wrong with the headers of a request over HTTP/2; those of HTTP/1.1 were judged before (`head_guard`).
fn wrong_fields(shard: &Shard, head: &Parts) -> Option<Reply> {
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

/// Answers a request whose head broke the rules of HTTP; the guard has counted it.
fn refuse_head(client: &Client, violation: Violation, asked: &Asked<'_>) -> Response<Body> {
    let (client, reason, request) = (client.address(), violation.name(), asked.id);
    debug!(%client, reason, %request, "refused a request: {violation}");
    Reply::Malformed(violation).response(asked)
}

/// Answers in frontd's own name. Each such answer is counted, and written into the log: what a client did wrong where
/// somebody looks for it, what an operator should know at most once a second.
fn refuse(
    shard: &Shard,
    client: &Client,
    app: Option<&str>,
    reply: Reply,
    asked: &Asked<'_>,
) -> Response<Body> {
    told(shard, client, app, reply, asked.id).response(asked)
}

/// Counts and logs an answer in frontd's own name. Returns the reply that tells why, which the guard knows better.
fn told(shard: &Shard, client: &Client, app: Option<&str>, reply: Reply, id: RequestId) -> Reply {
    static NOT_SERVED: LogLimit = LogLimit::new();
    let reply = match client.refusal().violation() {
        // Which the guard has counted.
        Some(violation) if reply == Reply::BadBody => Reply::Malformed(violation),
        _ => {
            shard.metrics().refused(reply.name());
            reply
        }
    };
    let (reason, client) = (reply.name(), client.address());
    if reply.is_of_client() {
        debug!(%client, app, reason, request = %id, "refused a request");
    } else if let Some(withheld) = NOT_SERVED.pass() {
        info!(%client, app, reason, request = %id, withheld, "a request was not served");
    }
    reply
}

/// Waits while too much of what this connection was answered before is in memory, for the client to take it; it has to in
/// the time of a send. Tells whether it has. Who holds little never waits, whatever others hold.
async fn has_room(shard: &Shard, client: &Client) -> bool {
    let memory = client.memory();
    let may_pass = || memory.uses_less_than(ALWAYS) || !memory.is_full();
    if may_pass() {
        return true;
    }
    let limit = shard.config().limits.send_timeout;
    let room = async {
        while !may_pass() {
            // Room above the limit wakes nobody.
            let _looks_again = tokio::time::timeout(LOOK, memory.room()).await;
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
