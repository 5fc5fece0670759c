//! Writes the access log.

use daemon::logging::ACCESS;
use http::Response;
use tracing::info;

use crate::backend::served_by::ServedBy;
use crate::body::Body;
use crate::visit::client::Client;
use crate::visit::request_id::RequestId;
use crate::visit::{Access, DeferredAccess};

/// Writes the line of a request once its response is known. A WebSocket gets its line when it is closed.
pub(super) fn log(client: &Client, id: RequestId, access: Access, response: &mut Response<Body>) {
    if let Some(deferred) = response.extensions_mut().remove::<DeferredAccess>() {
        return deferred.set(access);
    }
    let Access { began, method, target, host } = access;
    let (status, client) = (response.status().as_u16(), client.address());
    // Rounded to microseconds.
    let milliseconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let served_by = response.extensions_mut().remove::<ServedBy>();
    let worker = served_by.as_ref().map_or("-", ServedBy::worker);
    info!(target: ACCESS, %client, %method, host, target, status, milliseconds, worker, request = %id, "request");
}
