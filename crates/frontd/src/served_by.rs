//! Which worker answered a request, for the access log.

use std::sync::Arc;

use http::Response;

use crate::upstream::Link;

/// An extension of a response: the worker that gave it. There is none unless the access log is on.
#[derive(Clone)]
pub(crate) struct ServedBy(Arc<Link>);

impl ServedBy {
    /// Leaves it in the response, where hyper ignores it.
    pub(crate) fn note<B>(link: Arc<Link>, response: &mut Response<B>) {
        response.extensions_mut().insert(Self(link));
    }

    /// Its name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.0.worker()
    }
}
