//! The bodies of requests and responses, and where they wait: in memory, in the spool, or in a file.

pub(crate) mod cut;
pub(crate) mod file;
pub(crate) mod request;
mod response;
pub(crate) mod spool;
pub(crate) mod waiting;

pub(crate) use response::Body;

/// Smaller bodies aren't counted while they wait for the client, since it isn't worth the cost.
const COUNTED: usize = 16 * 1024;
