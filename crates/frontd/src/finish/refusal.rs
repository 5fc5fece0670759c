//! Counts and logs each request that frontd refuses or can't serve, and writes its page.

use http::Response;
use tracing::{debug, info};

use crate::action::reply::{Details, Reply};
use crate::body::Body;
use crate::observe::log_limit::LogLimit;
use crate::observe::metrics::Metrics;
use crate::visit::Visit;
use crate::visit::violation::Violation;

/// The page for a request whose head violates HTTP. The guard has already counted it.
pub(super) fn page_of_guard(visit: &Visit<'_>, violation: Violation) -> Response<Body> {
    let (client, reason, request) = (visit.client.address(), violation.name(), visit.id);
    debug!(%client, reason, %request, "refused a request: {violation}");
    Reply::Malformed(violation).response(&visit.info())
}

/// The page for a refused request. Each refusal is counted and logged: mistakes of clients at `debug`, and
/// what concerns the operator at `info`, at most once a second.
pub(super) fn page(
    metrics: &Metrics,
    visit: &Visit<'_>,
    app: Option<&str>,
    reply: Reply,
    details: Details,
) -> Response<Body> {
    static NOT_SERVED: LogLimit = LogLimit::new();
    let reply = match visit.client.refusal().violation() {
        // The guard knows the reason, and has already counted it.
        Some(violation) if reply == Reply::BadBody => Reply::Malformed(violation),
        _ => {
            metrics.refused(reply.name());
            reply
        }
    };
    let (reason, client, id) = (reply.name(), visit.client.address(), visit.id);
    if reply.is_client_error() {
        debug!(%client, app, reason, request = %id, "refused a request");
    } else if let Some(withheld) = NOT_SERVED.pass() {
        info!(%client, app, reason, request = %id, withheld, "a request was not served");
    }
    reply.response_with(&visit.info(), details)
}
