//! What is known about one request, and about its client.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod early_hints;
pub(crate) mod refusal;
pub(crate) mod request_id;
pub(crate) mod upgrade;
pub(crate) mod url_path;
pub(crate) mod violation;
pub(crate) mod websocket;

use std::sync::Arc;
use std::time::Instant;

use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{Method, Request};
use parking_lot::Mutex;

use self::authority::{Authority, AuthorityError};
use self::client::Client;
use self::request_id::RequestId;
use self::websocket::Asked;

/// One request of a client, without its body.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) client: &'a Client,
    pub(crate) id: RequestId,
    /// Its path is normalized before a site is looked up.
    pub(crate) head: Parts,
    /// Empty if the request names no host, or an invalid one.
    pub(crate) authority: Authority,
    /// Only if the request is to be logged.
    pub(crate) access: Option<Access>,
    /// Only if it asks for a WebSocket. Not known before it is routed.
    pub(crate) websocket: Option<Box<Asked>>,
}

/// What the access log says about a request: as it was received, and when.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) began: Instant,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) host: String,
}

/// A response extension: the access line is written later, by whoever has the other half.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeferredAccess(Arc<Mutex<Option<Access>>>);

impl DeferredAccess {
    /// Leaves the line to the other half.
    pub(crate) fn set(&self, access: Access) {
        *self.0.lock() = Some(access);
    }

    /// What to log. `None` if requests aren't logged.
    pub(crate) fn take(&self) -> Option<Access> {
        self.0.lock().take()
    }
}

/// What a page says about its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestInfo<'a> {
    pub(crate) id: RequestId,
    pub(crate) head: &'a Parts,
}

impl<'a> Visit<'a> {
    /// Starts with the head of a request. Also returns why its host can't be told, if so.
    pub(crate) fn new(
        client: &'a Client,
        head: Parts,
        access: Option<Access>,
    ) -> (Self, Result<(), AuthorityError>) {
        let (authority, known) = match Authority::of(&head, client.first_authority()) {
            Ok(authority) => (authority, Ok(())),
            Err(error) => (Authority::default(), Err(error)),
        };
        (Self { client, id: RequestId::new(), head, authority, access, websocket: None }, known)
    }

    /// Whether the client sends the body of the request only after `100 Continue`.
    pub(crate) fn expects_continue(&self) -> bool {
        self.head.headers.contains_key(EXPECT)
    }

    pub(crate) fn info(&self) -> RequestInfo<'_> {
        RequestInfo::new(self.id, &self.head)
    }
}

impl Access {
    pub(crate) fn new<B>(client: &Client, request: &Request<B>) -> Self {
        let began = Instant::now();
        if client.refusal().of(request).is_some() {
            let method = Method::from_bytes(b"-").unwrap_or_default();
            return Self { began, method, target: "-".to_owned(), host: String::new() };
        }
        let host = request.headers().get(HOST).and_then(|it| it.to_str().ok());
        Self {
            began,
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            host: host.or(request.uri().host()).unwrap_or_default().to_owned(),
        }
    }
}

impl<'a> RequestInfo<'a> {
    pub(crate) fn new(id: RequestId, head: &'a Parts) -> Self {
        Self { id, head }
    }
}
