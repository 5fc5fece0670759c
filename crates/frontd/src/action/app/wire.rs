//! Translates between HTTP and the protocol of workers.

use std::time::Duration;

use api::runner::{Header, Request as Message};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use tracing::warn;

use super::ProxiedRequest;
use super::headers::{self, Arena, TrailerNames};
use super::upload::Payload;
use crate::action::reply::Reply;
use crate::body::Body;
use crate::body::request::Incoming;
use crate::body::spool::SpooledBody;
use crate::visit::Visit;

impl ProxiedRequest<'_> {
    /// Sends early hints to the client, if its protocol allows that. Returns whether it does.
    pub(super) fn send_early_hints(&self, headers: Vec<Header>) -> bool {
        // HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
        if self.visit.head.version != Version::HTTP_11 {
            return false;
        }
        match headers::for_client(headers, TrailerNames::Omit) {
            Ok(headers) => self.visit.client.early_hints().send(&headers),
            Err(_) => {
                warn!(app = self.app.name(), request = %self.visit.id, "the app's early hints aren't valid HTTP");
            }
        }
        true
    }

    /// The request as the worker gets it.
    pub(super) fn message<B: Incoming>(&self, payload: &mut Payload<'_, B>) -> Message {
        let Self { app, visit: Visit { client, id, head, authority, .. }, .. } = self;
        let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let (length, body, body_length, streams_body) = match payload {
            Payload::Complete(body) => {
                let length = (!body.is_empty() || headers::announces_body(&head.headers)).then(|| body.len());
                match body {
                    SpooledBody::Inline(bytes) => (length, bytes.clone(), 0, false),
                    SpooledBody::File(_) => (length, Bytes::new(), body.len(), false),
                }
            }
            Payload::Arriving(arriving) => {
                let length = arriving.length();
                (length, arriving.inline(), length.unwrap_or(0), true)
            }
            // Such a request isn't sent again.
            Payload::Sending(_) => (None, Bytes::new(), 0, false),
        };
        let id = id.digits();
        let mut arena = Arena::for_headers(&head.headers, target.len() + id.len());
        let mut headers = headers::for_app(&head.headers, &authority.text, length, &mut arena);
        if self.visit.websocket.is_some() {
            headers.extend(headers::of_handshake());
        }
        Message {
            id: 0,
            method: method(&head.method),
            target: arena.copy(target.as_bytes()),
            version: version(head.version),
            headers,
            body,
            body_length,
            connection: Some(client.connection().clone()),
            script_name: app.mount.clone(),
            server_name: self.server_name(),
            server_port: authority.port.unwrap_or_else(|| client.default_port()).into(),
            request_id: arena.copy(&id),
            limit_milliseconds: app.backend.limits.request.map_or(0, milliseconds),
            idle_milliseconds: app.backend.limits.idle.map_or(0, milliseconds),
            websocket: self.visit.websocket.is_some(),
            streams_body,
        }
    }

    /// If the client named no host, the address that it connected to: PEP 3333 requires that it isn't empty.
    fn server_name(&self) -> Bytes {
        match &self.visit.authority.host {
            unknown if unknown.is_empty() => self.visit.client.local().to_string().into(),
            host => host.clone(),
        }
    }

    /// Builds the response without its body.
    pub(super) fn response_head(
        &self,
        status: u32,
        reason: Bytes,
        headers: Vec<Header>,
        trailers: TrailerNames,
    ) -> Result<Response<Body>, Reply> {
        let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok());
        let status =
            status.filter(|it| !it.is_informational()).ok_or_else(|| self.bad_response("its status"))?;
        let headers = headers::for_client(headers, trailers).map_err(|_| self.bad_response("a header"))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if status == StatusCode::NO_CONTENT {
            // RFC 9110, section 8.6 forbids it, even in a response to HEAD.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        // HTTP/2 has no reason phrase (RFC 9113, section 8.3.2).
        if !reason.is_empty() && self.visit.head.version < Version::HTTP_2 {
            let reason =
                ReasonPhrase::try_from(reason).map_err(|_| self.bad_response("its reason phrase"))?;
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Whether the response has no body (RFC 9110, section 6.4.1).
    pub(super) fn is_bodiless(&self, status: StatusCode) -> bool {
        self.visit.head.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    pub(super) fn bad_response(&self, what: &'static str) -> Reply {
        warn!(app = self.app.name(), request = %self.visit.id, "the app's response isn't valid HTTP: {what}");
        Reply::BadResponse
    }
}

/// Completes a response whose body came with its head.
pub(super) fn inline(mut response: Response<Body>, body: Bytes) -> Response<Body> {
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    response.map(|_| Body::full(body))
}

fn method(method: &Method) -> Bytes {
    match *method {
        Method::GET => Bytes::from_static(b"GET"),
        Method::POST => Bytes::from_static(b"POST"),
        Method::HEAD => Bytes::from_static(b"HEAD"),
        _ => Bytes::copy_from_slice(method.as_str().as_bytes()),
    }
}

/// Converts to milliseconds. Never returns 0, which means no limit.
fn milliseconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn version(version: Version) -> u32 {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        _ => 11,
    }
}
