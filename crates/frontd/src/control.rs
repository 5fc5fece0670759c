//! How frontd is controlled: routes from emperord, its configuration file, and probes.

pub(crate) mod admin;
pub(crate) mod emperord;
pub(crate) mod reload;
pub(crate) mod routes;
