//! The upstream side: each shard's link to each worker, and the exchanges on it.

mod bodies;
mod exchange;
mod link;
mod links;
mod pace;
pub(crate) mod pool;
pub(crate) mod served_by;

pub(crate) use bodies::Bodies;
pub(crate) use exchange::{BodyCall, Broken, Outcome, Pending, Receiving};
pub(crate) use link::Link;
pub(crate) use links::Links;

/// How many bytes of one body may be in flight between frontd and a worker.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Effectively unlimited: each body on a connection has its own limit, and a slow one must not block the
/// others.
const CONNECTION_WINDOW: u32 = 1 << 30;
