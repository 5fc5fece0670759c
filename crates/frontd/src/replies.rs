//! The reply desk: every answer that frontd gives in its own name.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::head_guard::Violation;

/// Why a request is not answered by its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A request that breaks the rules of HTTP.
    Malformed(Violation),
    /// No host, or one that is none (RFC 9112, 3.2).
    BadHost,
    /// A header of HTTP/2 that begins or ends with white space (RFC 9113, 8.2.1).
    BadField,
    /// A body that did not arrive as announced.
    BadBody,
    /// The routing table is not known yet.
    NotReady,
    /// No app for this host and path.
    NoApp,
    /// Nothing to connect to here: frontd is no forward proxy.
    NoTunnel,
    /// The client took too long to send its body.
    BodyTimeout,
    /// A body over the app's limit.
    BodyTooLarge,
    /// The disk is full, or the like.
    Internal,
    /// The worker died of the request, or while it worked on it.
    WorkerLost,
    /// The worker's answer is no HTTP.
    BadResponse,
    /// Too many wait already, or this one waited too long.
    Overloaded,
    /// The app has no workers.
    AppFailed,
    /// The worker took too long.
    AppTimeout,
}

impl Reply {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(violation) => violation.status(),
            Self::BadHost | Self::BadField | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::NoApp => StatusCode::NOT_FOUND,
            Self::NoTunnel => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::WorkerLost | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::NotReady | Self::Overloaded | Self::AppFailed => StatusCode::SERVICE_UNAVAILABLE,
            Self::AppTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What a person reads. It says nothing of the inside.
    fn text(self) -> &'static str {
        match self {
            Self::Malformed(_) => "The request was refused",
            Self::BadHost => "The request names no host that could be understood.",
            Self::BadField => "A header of the request begins or ends with white space.",
            Self::BadBody => "The request's body did not arrive as it was announced.",
            Self::NotReady => "The server is starting. Please try again in a moment.",
            Self::NoApp => "There is no site at this address.",
            Self::NoTunnel => "This server opens no tunnels.",
            Self::BodyTimeout => "The request's body took too long to arrive.",
            Self::BodyTooLarge => "The request's body is larger than this site accepts.",
            Self::Internal => "The server could not take the request.",
            Self::WorkerLost => "The application ended while it worked on this request.",
            Self::BadResponse => "The application's answer could not be understood.",
            Self::Overloaded => "The application is busy. Please try again in a moment.",
            Self::AppFailed => "The application is not running.",
            Self::AppTimeout => "The application took too long to answer.",
        }
    }

    /// Its name in the log and among the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed(violation) => violation.name(),
            Self::BadHost => "bad_host",
            Self::BadField => "bad_field",
            Self::BadBody => "bad_body",
            Self::NotReady => "not_ready",
            Self::NoApp => "no_app",
            Self::NoTunnel => "no_tunnel",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::Internal => "internal",
            Self::WorkerLost => "worker_lost",
            Self::BadResponse => "bad_response",
            Self::Overloaded => "overloaded",
            Self::AppFailed => "app_failed",
            Self::AppTimeout => "app_timeout",
        }
    }

    /// Whether the client can do something about it, and nobody else.
    pub(crate) fn is_of_client(self) -> bool {
        self.status().is_client_error() || matches!(self, Self::Malformed(_))
    }

    pub(crate) fn response(self) -> Response<Body> {
        let status = self.status();
        let text = self.text();
        let text = match self {
            Self::Malformed(violation) => format!("{text}: {violation}."),
            _ => text.to_owned(),
        };
        let page = format!("<!doctype html>\n<title>{status}</title>\n<h1>{status}</h1>\n<p>{text}</p>\n");
        let length = HeaderValue::from(page.len());
        let mut response = Response::new(Body::full(Bytes::from(page)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// To `OPTIONS *`, which asks about the server as a whole (RFC 9110, 9.3.7).
pub(crate) fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
