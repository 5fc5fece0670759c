//! Sends a request to a worker of an app, and the worker's response to the client.

mod headers;
mod receive;
mod retry;
mod sendfile;
pub(crate) mod sticky;
mod stream;
mod trailers;
mod upload;
mod websocket;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use self::sticky::Affinity;
use super::Resources;
use super::files::StaticFolder;
use super::reply::{Failure, Reply};
use crate::backend::Backend;
use crate::backend::pool::Refused;
use crate::body::Body;
use crate::body::request::{Incoming, RequestBody};
use crate::body::spool::Account;
use crate::visit::Visit;
use crate::yield_before_park;

/// An app as its site knows it.
#[derive(Debug)]
pub(crate) struct App {
    backend: Backend,
    /// The path that it is mounted at, without a trailing slash: WSGI's `SCRIPT_NAME`.
    mount: Bytes,
    /// Folders whose files it may send with X-Sendfile and the like, the longest prefix first.
    files: Vec<Arc<StaticFolder>>,
    /// Why its newest version can't start. Only for developers.
    failure: Option<Box<StartFailure>>,
    affinity: Affinity,
}

/// Why an app can't start.
#[derive(Debug)]
pub(crate) struct StartFailure {
    /// The cause in one line, then the traceback.
    pub(crate) text: String,
    /// What happens next, as a sentence without a full stop.
    pub(crate) next: String,
}

/// A request without its body.
#[derive(Clone, Copy)]
struct ProxiedRequest<'a> {
    resources: &'a Resources,
    app: &'a App,
    visit: &'a Visit<'a>,
}

impl App {
    pub(crate) fn new(
        backend: Backend,
        mount: &str,
        files: Vec<Arc<StaticFolder>>,
        failure: Option<StartFailure>,
        affinity: Affinity,
    ) -> Self {
        let mount = Bytes::copy_from_slice(mount.as_bytes());
        Self { backend, mount, files, failure: failure.map(Box::new), affinity }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The folders that it may send files from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<StaticFolder>> {
        self.files.iter()
    }

    fn name(&self) -> &str {
        &self.backend.name
    }

    /// Sends a request to a worker.
    ///
    /// # Errors
    ///
    /// Returns the reply to send instead of a response of the app.
    pub(super) async fn respond<B: Incoming>(
        &self,
        resources: &Resources,
        visit: &Visit<'_>,
        body: &mut RequestBody<B>,
    ) -> Result<Response<Body>, Reply> {
        if let Some(page) = self.start_failure(resources, visit) {
            return Ok(page);
        }
        if let Some(asked) = &visit.websocket {
            // Boxed because it is rare.
            return Box::pin(websocket::respond::<B>(resources, self, visit, asked)).await;
        }
        let (payload, attempts) = receive::receive(resources, self, visit, body).await?;
        yield_before_park::app();
        ProxiedRequest { resources, app: self, visit }.run(payload, attempts).await
    }

    /// The page that shows a developer why the app can't start, if it can't.
    pub(super) fn start_failure(&self, resources: &Resources, visit: &Visit<'_>) -> Option<Response<Body>> {
        let StartFailure { text, next } =
            self.failure.as_deref().filter(|_| resources.mode.is_development())?;
        Some(Failure::Start { text, next }.response(&visit.info()))
    }

    /// The quotas that the bodies of a request count against in the spool.
    fn account(&self, resources: &Resources, visit: &Visit<'_>) -> Account {
        Account {
            folder: resources.spool.clone(),
            app: Arc::clone(&self.backend.name),
            client: Arc::clone(visit.client.share()),
            memory: Arc::clone(visit.client.memory()),
        }
    }
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full
            | Refused::TooManyUploads
            | Refused::TimedOut
            | Refused::NoSocketRoom
            | Refused::HandedBack => Self::Overloaded,
            Refused::TooManyUploadsOfClient => Self::TooManyUploads,
            Refused::Failed => Self::AppFailed,
        }
    }
}
