//! What answers a request: files, the app, or frontd itself.

pub(crate) mod app;
pub(crate) mod files;
pub(crate) mod reply;

use std::sync::Arc;

use http::{Response, Version};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::app::App;
use self::files::StaticFolder;
use self::reply::Reply;
use crate::body::Body;
use crate::body::request::{Incoming, RequestBody};
use crate::body::spool::SpoolFolder;
use crate::mode::Mode;
use crate::observe::metrics::Metrics;
use crate::visit::Visit;
use crate::yield_before_park;

/// What a site does with a request.
#[derive(Debug)]
pub(crate) enum Action {
    /// Serves a file.
    Files(Arc<StaticFolder>),
    /// Sends the request to a worker.
    App(Box<App>),
}

/// What actions need of the shard that they run on.
#[derive(Debug)]
pub(crate) struct Resources {
    /// The shard's number.
    pub(crate) shard: usize,
    /// How much detail built-in pages show.
    pub(crate) mode: Mode,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) spool: SpoolFolder,
    /// Connections and their running requests: the drain waits for them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the drain begins: WebSockets are closed between two messages.
    pub(crate) drain: CancellationToken,
    /// Cancelled at the end of the drain: all WebSockets are closed then.
    pub(crate) drained: CancellationToken,
}

impl Action {
    /// Answers a request. `rest` is the part of its path that the site's rule leaves open.
    ///
    /// # Errors
    ///
    /// Returns the reply to send instead.
    pub(crate) async fn respond<B: Incoming>(
        &self,
        resources: &Resources,
        visit: &Visit<'_>,
        rest: &str,
        body: &mut RequestBody<B>,
    ) -> Result<Response<Body>, Reply> {
        match self {
            // Over HTTP/1.1, a client that isn't given a WebSocket gets the file.
            Self::Files(_) if visit.websocket.is_some() && visit.head.version == Version::HTTP_2 => {
                Err(Reply::NoWebSockets)
            }
            Self::Files(folder) => Ok(file(folder, visit, rest).await),
            Self::App(app) => app.respond(resources, visit, body).await,
        }
    }

    /// The page that shows a developer why the app can't start, if it can't.
    pub(crate) fn start_failure(&self, resources: &Resources, visit: &Visit<'_>) -> Option<Response<Body>> {
        match self {
            Self::Files(_) => None,
            Self::App(app) => app.start_failure(resources, visit),
        }
    }

    pub(crate) fn files(&self) -> Option<&Arc<StaticFolder>> {
        match self {
            Self::Files(folder) => Some(folder),
            Self::App(_) => None,
        }
    }

    pub(crate) fn app(&self) -> Option<&App> {
        match self {
            Self::Files(_) => None,
            Self::App(app) => Some(app),
        }
    }
}

async fn file(folder: &StaticFolder, visit: &Visit<'_>, rest: &str) -> Response<Body> {
    yield_before_park::file();
    let Visit { client, head, .. } = visit;
    let mut response = folder.serve(&head.method, rest, &head.headers, &client.share().files).await;
    files::keep_query(&mut response, head.uri.query());
    reply::complete(response.map(Body::file), &visit.info())
}
