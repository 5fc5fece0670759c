//! What happens to every response, whatever produced it. The steps, in this order:
//!
//! 1. If the request was refused, its page is written, and the refusal is counted and logged (`refusal`).
//! 2. The response counts for its site, or as unrouted.
//! 3. The body is prepared for the client's protocol; a response to HEAD has none.
//! 4. The access line is written (`access`).
//!
//! A new step, such as header rules or compression, gets a file of its own, and a place in this list.

mod access;
mod refusal;

use std::sync::Arc;

use http::{Method, Response};

use crate::action::reply::{Details, Reply};
use crate::body::Body;
use crate::observe::metrics::Metrics;
use crate::site::{Policy, Site};
use crate::visit::Visit;
use crate::visit::violation::Violation;

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Response<Body>),
    /// The request was refused, or couldn't be served.
    Refused(Reply, Details),
    /// The head guard refused and counted it.
    RefusedByGuard(Violation),
}

/// Where a request was routed.
#[derive(Debug)]
pub(crate) enum Routed {
    To(Arc<Site>),
    /// It matches no site.
    Nowhere,
    /// It is about the whole server, or was refused before it could be routed.
    Not,
}

/// Finishes the response to a request.
pub(crate) fn finish(metrics: &Metrics, visit: Visit<'_>, routed: &Routed, answer: Answer) -> Response<Body> {
    let response = match answer {
        Answer::Response(response) => response,
        Answer::Refused(reply, details) => refusal::page(metrics, &visit, routed.app(), reply, details),
        Answer::RefusedByGuard(violation) => refusal::page_of_guard(&visit, violation),
    };
    match routed {
        Routed::To(site) => apply(site.policy(), &response),
        Routed::Nowhere => {
            metrics.unrouted.inc();
        }
        Routed::Not => {}
    }
    let mut response = match visit.head.method {
        // Over HTTP/2, hyper would send the body.
        Method::HEAD => response.map(|_| Body::empty()),
        _ => response.map(|body| body.to(visit.head.version, visit.client.memory())),
    };
    if let Some(access) = visit.access {
        access::log(visit.client, visit.id, access, &mut response);
    }
    response
}

/// Applies what a site wants for all of its responses.
fn apply(policy: &Policy, response: &Response<Body>) {
    policy.metrics.responded(response.status());
}

impl From<Result<Response<Body>, Reply>> for Answer {
    fn from(answered: Result<Response<Body>, Reply>) -> Self {
        match answered {
            Ok(response) => Self::Response(response),
            Err(reply) => reply.into(),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Refused(reply, Details::Nothing)
    }
}

impl Routed {
    /// The name of the app, for the log.
    fn app(&self) -> Option<&str> {
        match self {
            Self::To(site) => Some(site.name()),
            Self::Nowhere | Self::Not => None,
        }
    }
}
