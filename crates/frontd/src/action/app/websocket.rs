//! Gives a client a WebSocket to a worker of an app.

mod output;
mod relay;
mod room;

use std::net::IpAddr;
use std::sync::Arc;

use api::runner::Header;
use bytes::Bytes;
use daemon::logging::ACCESS;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS};
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::{debug, info};
use websocket::Close;
use websocket::deflate::Deflate;
use websocket::handshake::{Handshake, Refused};

use self::relay::{Limits, Relay, Report};
use super::headers::TrailerNames;
use super::upload::Payload;
use super::{App, ProxiedRequest, headers};
use crate::action::Resources;
use crate::action::reply::Reply;
use crate::backend::Socket;
use crate::backend::pool::Attempts;
use crate::body::Body;
use crate::body::request::Incoming;
use crate::body::spool::SpooledBody;
use crate::limits::quota::Held;
use crate::observe::metrics::SocketMetrics;
use crate::visit::client::Guard;
use crate::visit::request_id::RequestId;
use crate::visit::websocket::Asked;
use crate::visit::{Access, DeferredAccess, Visit};
use crate::yield_before_park;

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Version => Self::WebSocketVersion,
            Refused::Invalid(reason) => Self::BadWebSocket(reason),
        }
    }
}

/// Sends a handshake to a worker, which accepts or refuses it.
pub(super) async fn respond<B: Incoming>(
    resources: &Resources,
    app: &App,
    visit: &Visit<'_>,
    asked: &Asked,
) -> Result<Response<Body>, Reply> {
    asked.handshake.as_ref().map_err(|refused| Reply::from(*refused))?;
    let attempts = Attempts::new(app.backend.limits.queue).for_websocket();
    yield_before_park::app();
    let nothing = Payload::<B>::Complete(SpooledBody::Inline(Bytes::new()));
    ProxiedRequest { resources, app, visit }.run(nothing, attempts).await
}

impl ProxiedRequest<'_> {
    /// Whether a response with this status would pass for an accepted handshake, although it isn't.
    pub(super) fn would_accept_socket(&self, status: u32) -> bool {
        self.visit.websocket.is_some()
            && self.visit.head.version == Version::HTTP_2
            && (200..300).contains(&status)
    }

    /// A worker has accepted the handshake: so does the response, and a task takes over.
    pub(super) fn accept_socket(
        &self,
        headers: Vec<Header>,
        socket: Socket,
    ) -> Result<Response<Body>, Reply> {
        let Self { resources, app, visit } = self;
        let Visit { client, head, .. } = visit;
        let asked = visit.websocket.as_ref().ok_or(Reply::Internal)?;
        let handshake = asked.handshake.as_ref().map_err(|refused| Reply::from(*refused))?;
        let upgrade = head.extensions.get::<OnUpgrade>().cloned().ok_or(Reply::Internal)?;
        if let Some(violation) = client.refusal().violation() {
            // The client hasn't waited for the response, and what it sent wasn't HTTP.
            return Err(Reply::Malformed(violation));
        }
        let mut response = Response::new(Body::empty());
        *response.headers_mut() =
            headers::for_client(headers, TrailerNames::Omit).map_err(|_| self.bad_response("a header"))?;
        for own in [CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS] {
            response.headers_mut().remove(own);
        }
        response.headers_mut().extend(handshake.accept());
        let deflate = self.deflate(handshake);
        if let Some((deflate, _)) = &deflate
            && let (name, value) = deflate.header()
            && let Ok(value) = HeaderValue::try_from(value)
        {
            response.headers_mut().insert(name, value);
        }
        if head.version < Version::HTTP_2 {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            client.upgrade().accept();
        }
        let access = DeferredAccess::default();
        response.extensions_mut().insert(access.clone());
        let limits = Limits {
            message: app.backend.limits.message,
            send_timeout: asked.send_timeout,
            memory: Arc::clone(client.memory()),
            messages: Arc::clone(&client.share().memory),
            drain: resources.drain.clone(),
            drained: resources.drained.clone(),
        };
        let session = Session {
            socket,
            deflate,
            limits,
            metrics: resources.metrics.sockets(app.name()),
            access,
            client: client.address(),
            id: visit.id,
            _guard: client.guard(),
        };
        resources.tasks.spawn(session.run(upgrade));
        Ok(response)
    }

    /// Accepts the client's offer to compress messages. While its address, or all clients, hold enough contexts, none is
    /// kept between messages.
    fn deflate(&self, handshake: &Handshake) -> Option<(Deflate, Option<Held>)> {
        let offer = handshake.deflate?;
        let with_contexts = offer.accept(true);
        let contexts = &self.visit.client.share().contexts;
        match contexts.take(with_contexts.memory()) {
            Some(held) => Some((with_contexts, Some(held))),
            None => Some((offer.accept(false), None)),
        }
    }
}

/// One WebSocket, from the response on.
struct Session {
    socket: Socket,
    deflate: Option<(Deflate, Option<Held>)>,
    limits: Limits,
    metrics: SocketMetrics,
    access: DeferredAccess,
    client: IpAddr,
    id: RequestId,
    _guard: Option<Guard>,
}

impl Session {
    async fn run(self, upgrade: OnUpgrade) {
        let Self { socket, deflate, limits, metrics, access, client, id, _guard } = self;
        let worker = socket.worker().to_owned();
        let report = match upgrade.await {
            Ok(upgraded) => {
                let deflating = deflate.as_ref().map(|(deflate, _)| deflate);
                Relay::new(TokioIo::new(upgraded), socket, deflating, limits, metrics).await
            }
            Err(error) => {
                debug!(%client, request = %id, %error, "client left before its WebSocket began");
                // Dropping the socket tells the worker.
                Report { code: Close::ABNORMAL, ..Report::default() }
            }
        };
        if let Some(access) = access.take() {
            log(client, id, access, &worker, &report);
        }
    }
}

/// Writes the access line of a WebSocket once it is closed.
fn log(client: IpAddr, id: RequestId, access: Access, worker: &str, report: &Report) {
    let Access { began, method, target, host } = access;
    let milliseconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let Report { code, received, sent } = report;
    info!(target: ACCESS, %client, %method, host, target, status = 101_u16, milliseconds, worker, code, received, sent, request = %id, "request");
}
