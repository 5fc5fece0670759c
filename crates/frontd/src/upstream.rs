//! The side of the workers: a link to each, from each shard, and the exchanges on it.

mod bodies;
mod exchange;
mod link;
mod links;

pub(crate) use bodies::Bodies;
pub(crate) use exchange::{BodyCall, Broken, Outcome, Pending, Receiving};
pub(crate) use link::Link;
pub(crate) use links::Links;

/// How many bytes of one body may be on the way between frontd and a worker.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// As good as none: the bodies that share a connection are bounded one by one, and a slow one must not
/// hold up the others.
const CONNECTION_WINDOW: u32 = 1 << 30;
