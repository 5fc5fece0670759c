//! Bodies of requests and responses.

pub(crate) mod cut;
pub(crate) mod request;
mod response;
pub(crate) mod spool;

pub(crate) use response::{Body, COUNTED};
