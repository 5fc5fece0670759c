//! Records which worker served a request, for the access log.

use std::sync::Arc;

use http::Response;

use crate::backend::Link;

/// A response extension with the worker that served the request. Only set if the access log is on.
#[derive(Clone)]
pub(crate) struct ServedBy(Arc<Link>);

impl ServedBy {
    /// Attaches the worker to the response. hyper ignores the extension.
    pub(crate) fn note<B>(link: Arc<Link>, response: &mut Response<B>) {
        response.extensions_mut().insert(Self(link));
    }

    /// The worker's name, such as `blog-2`.
    pub(crate) fn worker(&self) -> &str {
        self.0.worker()
    }
}
