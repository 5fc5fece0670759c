//! What calls the app.

pub(crate) mod failure;
pub(crate) mod live_spec;
