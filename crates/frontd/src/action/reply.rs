//! All responses that frontd creates itself: reasons, statuses and texts.

mod accept;
mod failure;
mod page;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::header::{ALLOW, CONNECTION, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Response, StatusCode, Version};

use crate::body::Body;
use crate::visit::RequestInfo;
use crate::visit::authority::AuthorityError;
use crate::visit::violation::Violation;
pub(crate) use failure::Failure;
use page::Page;
pub(crate) use page::{Details, SiteLink};

/// Why frontd responds to a request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The request violates HTTP.
    Malformed(Violation),
    /// There is no valid host (RFC 9112, section 3.2).
    BadHost,
    /// HTTP/2 only: `Host` differs from `:authority` (RFC 9113, section 8.3.1).
    HostMismatch,
    /// Plain HTTP on a TLS port.
    PlainHttp,
    /// HTTP/2 only: a header value begins or ends with whitespace (RFC 9113, section 8.2.1).
    BadField,
    /// The body didn't arrive as announced.
    BadBody,
    /// The routing table isn't known yet.
    NotReady,
    /// No app for this host and path.
    NoApp,
    /// CONNECT: frontd isn't a forward proxy.
    NoTunnel,
    /// The client took too long to send the body.
    BodyTimeout,
    /// The body is larger than the app's `limits.body`.
    BodyTooLarge,
    /// frontd failed, for example because a disk is full.
    Internal,
    /// The worker exited while it was handling the request.
    WorkerLost,
    /// The worker's response isn't valid HTTP.
    BadResponse,
    /// The client's address has too many uploads in progress.
    TooManyUploads,
    /// Too many requests are waiting, or this one waited too long.
    Overloaded,
    /// The app has no workers.
    AppFailed,
    /// The app took longer than `timeouts.request`.
    AppTimeout,
    /// The request asks for a WebSocket in an invalid way.
    BadWebSocket(&'static str),
    /// The request asks for a WebSocket of another version than 13.
    WebSocketVersion,
    /// The app's interface has no WebSockets.
    NoWebSockets,
}

impl From<AuthorityError> for Reply {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Invalid => Self::BadHost,
            AuthorityError::Mismatch => Self::HostMismatch,
        }
    }
}

impl Reply {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(violation) => violation.status(),
            Self::BadHost
            | Self::HostMismatch
            | Self::PlainHttp
            | Self::BadField
            | Self::BadBody
            | Self::BadWebSocket(_) => StatusCode::BAD_REQUEST,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NoWebSockets => StatusCode::NOT_IMPLEMENTED,
            Self::NoApp => StatusCode::NOT_FOUND,
            Self::NoTunnel => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyUploads => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::WorkerLost | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::NotReady | Self::Overloaded | Self::AppFailed => StatusCode::SERVICE_UNAVAILABLE,
            Self::AppTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The message for people. Reveals no internals.
    fn text(self) -> &'static str {
        match self {
            Self::Malformed(_) => "The request was refused",
            Self::BadHost => "The request doesn't name a valid host.",
            Self::HostMismatch => "The request names two different hosts.",
            Self::PlainHttp => "This port only accepts HTTPS, but the request was plain HTTP.",
            Self::BadField => "A header of the request begins or ends with white space.",
            Self::BadBody => "The request body didn't arrive as announced.",
            Self::NotReady => "The server is starting.",
            Self::NoApp => "There is no site at this address.",
            Self::NoTunnel => "This server isn't a proxy: it doesn't open tunnels.",
            Self::BodyTimeout => "The request body took too long to arrive.",
            Self::BodyTooLarge => "The request body is larger than this site accepts.",
            Self::Internal => "The server couldn't handle the request.",
            Self::WorkerLost => "The application exited while it was working on this request.",
            Self::BadResponse => "The application sent an invalid response.",
            Self::TooManyUploads => "Too many uploads from your network are in progress.",
            Self::Overloaded => "The application is busy.",
            Self::AppFailed => "The application isn't running.",
            Self::AppTimeout => "The application took too long to answer.",
            Self::BadWebSocket(_) => "The request for a WebSocket was refused",
            Self::WebSocketVersion => "This server supports version 13 of the WebSocket protocol.",
            Self::NoWebSockets => {
                "Only ASGI applications accept WebSockets, and there is none at this address. For example, use Quart in place of Flask and Flask-Sock, or Django's asgi.py in place of wsgi.py."
            }
        }
    }

    /// The name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed(violation) => violation.name(),
            Self::BadHost => "bad_host",
            Self::HostMismatch => "host_mismatch",
            Self::PlainHttp => "plain_http",
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
            Self::TooManyUploads => "too_many_uploads",
            Self::Overloaded => "overloaded",
            Self::AppFailed => "app_failed",
            Self::AppTimeout => "app_timeout",
            Self::BadWebSocket(_) => "bad_websocket",
            Self::WebSocketVersion => "websocket_version",
            Self::NoWebSockets => "no_websockets",
        }
    }

    /// Whether only the client can fix it.
    pub(crate) fn is_client_error(self) -> bool {
        self.status().is_client_error() || matches!(self, Self::Malformed(_))
    }

    pub(crate) fn response(self, info: &RequestInfo<'_>) -> Response<Body> {
        self.response_with(info, Details::Nothing)
    }

    /// A response with additional content.
    pub(crate) fn response_with(self, info: &RequestInfo<'_>, more: Details) -> Response<Body> {
        let text = match self {
            Self::Malformed(violation) => format!("{}: {violation}.", self.text()).into(),
            Self::BadWebSocket(reason) => format!("{}: {reason}.", self.text()).into(),
            _ => Cow::Borrowed(self.text()),
        };
        let mut page = Page { status: self.status(), text: &text, more }.write(info);
        if self == Self::WebSocketVersion {
            let version = HeaderValue::from_static(websocket::handshake::VERSION);
            page.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            if info.head.version < Version::HTTP_2 {
                page.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                page.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            }
        }
        page
    }
}

/// Adds the page to a response for a static file that isn't served. `response` has the status and headers,
/// and no body yet.
pub(crate) fn complete(response: Response<Body>, info: &RequestInfo<'_>) -> Response<Body> {
    let status = response.status();
    let text = match status {
        StatusCode::FORBIDDEN => "The server may not read this file.",
        StatusCode::NOT_FOUND => "There is no such file.",
        StatusCode::METHOD_NOT_ALLOWED => "This is a file: it can only be read.",
        StatusCode::PRECONDITION_FAILED => "The file is no longer the one that the request is about.",
        StatusCode::RANGE_NOT_SATISFIABLE => "The file has no such part.",
        StatusCode::SERVICE_UNAVAILABLE => "The server is too busy to read this file.",
        _ if status.is_client_error() || status.is_server_error() => "The server could not read this file.",
        _ => return response,
    };
    let mut page = Page { status, text, more: Details::Nothing }.write(info);
    page.headers_mut().extend(response.into_parts().0.headers);
    page
}

/// The response to `OPTIONS *`, which asks about the whole server (RFC 9110, section 9.3.7).
pub(crate) fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
