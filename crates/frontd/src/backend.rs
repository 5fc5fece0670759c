//! The way to an app's workers: who gets a request, how many may wait, and the links that carry them.

mod link;
mod links;
mod pace;
pub(crate) mod pool;
pub(crate) mod served_by;

use std::sync::Arc;
use std::time::Duration;

use api::Endpoint;

pub(crate) use link::{
    BodyCall, Broken, BrokenOff, Link, Outcome, Pending, Progress, Receiving, Socket, SocketEvent, Uploading,
};
pub(crate) use links::Links;
use pool::Pool;

/// The workers of one app, and the limits of the requests to them.
#[derive(Debug)]
pub(crate) struct Backend {
    /// The app's name.
    pub(crate) name: Arc<str>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) pool: Arc<Pool<Arc<Link>>>,
    pub(crate) limits: Limits,
}

/// Limits of one request to an app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time in the queue.
    pub(crate) queue: Duration,
    /// Time until the worker's response begins.
    pub(crate) request: Option<Duration>,
    /// Time between two chunks of a response body.
    pub(crate) idle: Option<Duration>,
    /// Size of the request body, in bytes.
    pub(crate) body: u64,
    /// Size of a WebSocket message, in bytes.
    pub(crate) message: usize,
}

/// A worker that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) instance: u64,
    pub(crate) endpoint: Endpoint,
}

/// Where the current backends are listed: the routing table.
pub(crate) trait Backends {
    /// The backends of all apps.
    fn backends(&self) -> impl Iterator<Item = &Backend>;
}
