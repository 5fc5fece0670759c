//! The connection to frontd: the streams that requests arrive on, their bodies, their time limits, and the
//! queue that an executor takes them from. Nothing in here knows Python.

pub(crate) mod active;
pub(crate) mod batch;
pub(crate) mod body;
mod chunks;
pub(crate) mod deadline;
pub(crate) mod guest;
pub(crate) mod peers;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod token;
pub(crate) mod websocket;
