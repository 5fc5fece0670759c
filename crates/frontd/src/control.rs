//! How frontd is controlled: emperord's routes, its configuration file, and probes.

pub(crate) mod admin;
pub(crate) mod reload;
pub(crate) mod routes;
