//! What answers a request: a file, the app, or frontd itself.

pub(crate) mod app;
pub(crate) mod files;
pub(crate) mod reply;
