//! What operators can see: metrics and log lines.

pub(crate) mod log_limit;
pub(crate) mod metrics;
